import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const folder = resolve(import.meta.dirname, '../src/attention');
const NOTE = '// Written by `npm run mechanisms` from the files in mechanisms/.\n';
const camel = (name: string) => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());

/** As the formatter writes it: on one line where that fits. */
function list(opening: string, items: readonly string[]): string {
  const line = `${opening}${items.join(', ')}];\n`;
  return line.length <= 111 ? line : `${opening}\n${items.map((item) => `  ${item},\n`).join('')}];\n`;
}

/** What the two lists of mechanisms must hold: every file of `mechanisms/`, at once or one at a time. */
export function mechanismLists(
  names: readonly string[],
): Readonly<Record<'all.ts' | 'on-demand.ts', string>> {
  const sorted = [...names].sort();
  const all = [
    NOTE,
    "import type { Mechanism } from './mechanism.ts';\n",
    ...sorted.map((name) => `import ${camel(name)} from './mechanisms/${name}.ts';\n`),
    '\n/** Every mechanism. A page never downloads this. */\n',
    list('export const MECHANISMS: readonly Mechanism[] = [', sorted.map(camel)),
  ].join('');
  const quote = (name: string) => (/-/.test(name) ? `'${name}'` : name);
  const onDemand = [
    NOTE,
    "import type { Mechanism } from './mechanism.ts';\n",
    '\n/** Each mechanism by kind, downloaded when a model asks for it. */\n',
    'export const ON_DEMAND: Readonly<Record<string, () => Promise<{ default: Mechanism }>>> = {\n',
    ...sorted.map((name) => `  ${quote(name)}: () => import('./mechanisms/${name}.ts'),\n`),
    '};\n',
  ].join('');
  return { 'all.ts': all, 'on-demand.ts': onDemand };
}

/** Lists whose text is not what the files ask for. */
export function outdatedLists(): string[] {
  const names = readdirSync(join(folder, 'mechanisms'))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => name.slice(0, -3));
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, name), 'utf8');
    } catch {
      return '';
    }
  };
  const lists = Object.entries(mechanismLists(names)).filter(([name, text]) => read(name) !== text);
  if (process.argv.includes('--write'))
    for (const [name, text] of lists) writeFileSync(join(folder, name), text);
  return lists.map(([name]) => name);
}

if (process.argv[1] === import.meta.filename) {
  const outdated = outdatedLists();
  const write = process.argv.includes('--write');
  console.log(
    outdated.length === 0
      ? 'mechanisms: the lists name every file'
      : `mechanisms: ${outdated.join(', ')} ${write ? 'written' : 'outdated; run npm run mechanisms'}`,
  );
  process.exitCode = outdated.length > 0 && !write ? 1 : 0;
}
