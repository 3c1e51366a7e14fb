import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { check } from './dependencies.ts';
import { scanImports } from './imports.ts';

const trees: string[] = [];
afterEach(() => {
  for (const tree of trees.splice(0)) rmSync(tree, { recursive: true });
});

function tree(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'attenuate-tree-'));
  trees.push(root);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  return root;
}

describe('scanImports', () => {
  it('finds every form', () => {
    const source = [
      `import a from './a.ts';`,
      `import type { B } from './b.ts';`,
      `import {\n  c,\n  type D,\n} from "./c.ts";`,
      `export * from './d.ts';`,
      `export type * from './e.ts';`,
      `import './f.ts';`,
      `const g = await import('./g.ts');`,
    ].join('\n');
    expect(scanImports(source).map((i) => [i.specifier, i.typeOnly])).toEqual([
      ['./a.ts', false],
      ['./b.ts', true],
      ['./c.ts', false],
      ['./d.ts', false],
      ['./e.ts', true],
      ['./f.ts', false],
      ['./g.ts', false],
    ]);
    expect(scanImports(source)[3].line).toBe(7);
  });

  it('sees none in comments, strings, templates and regular expressions', () => {
    const source = [
      `// import './a.ts';`,
      `/* import './b.ts'; */`,
      `const s = "import './c.ts'";`,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the scanned source holds a template of its own
      'const t = `import "./d.ts" ${`${1}import "./e.ts"`} import "./f.ts"`;',
      `const r = /import '.\\/g.ts'/;`,
      `const h = a / b; import './h.ts'; const i = c / d;`,
    ].join('\n');
    expect(scanImports(source).map((i) => i.specifier)).toEqual(['./h.ts']);
  });
});

describe('check', () => {
  it('accepts this tree', () => {
    expect(check(resolve(import.meta.dirname, '../src'))).toEqual([]);
  });

  it('accepts arrows that point down, and anything in tests', () => {
    const root = tree({
      'tensor/dim.ts': 'export const dim = 1;',
      'program/trace.ts': `import { dim } from '../tensor/dim.ts';`,
      'tensor/dim.test.ts': `import '../program/trace.ts';`,
      'cli/main.ts': `import '../program/trace.ts';`,
    });
    expect(check(root)).toEqual([]);
  });

  it.each([
    [
      'an upward arrow',
      { 'tensor/a.ts': `import '../program/b.ts';`, 'program/b.ts': '' },
      'may import nothing',
    ],
    [
      'a type that points up',
      { 'tensor/a.ts': `import type { B } from '../program/b.ts';`, 'program/b.ts': '' },
      'not program',
    ],
    [
      'one backend in another',
      { 'backend/wasm/a.ts': `import '../reference/b.ts';`, 'backend/reference/b.ts': '' },
      'not backend/reference',
    ],
    [
      'the op registry in the wasm backend',
      { 'backend/wasm/a.ts': `import '../../program/ops/registry.ts';`, 'program/ops/registry.ts': '' },
      'must do without it',
    ],
    ['a folder without a row', { 'utils/a.ts': '' }, 'has no row'],
    ['a missing file', { 'tensor/a.ts': `import './b.ts';` }, 'no such source file'],
    ['a way out of src', { 'tensor/a.ts': `import '../../bench/run.ts';` }, 'outside src'],
    [
      'node: behind the browser entry',
      { 'runtime/browser.ts': `import './file.ts';`, 'runtime/file.ts': `import 'node:fs';` },
      'imports node:fs: not in a browser (runtime/browser.ts → runtime/file.ts)',
    ],
    [
      'a package in the worker',
      { 'runtime/worker.ts': `await import('zod/v4');` },
      'imports zod/v4: not in a browser',
    ],
    [
      'a cost model behind the browser entry',
      { 'runtime/browser.ts': `import '../program/cost.ts';`, 'program/cost.ts': '' },
      'a page would download it',
    ],
    [
      'a cycle',
      { 'tensor/a.ts': `import './b.ts';`, 'tensor/b.ts': `export * from './a.ts';` },
      'cycle: tensor/a.ts → tensor/b.ts → tensor/a.ts',
    ],
  ])('refuses %s', (_name, files, expected) => {
    expect(check(tree(files as Record<string, string>)).join('\n')).toContain(expected);
  });

  it('lets types go round and lets the browser entry name types of anything', () => {
    const root = tree({
      'tensor/a.ts': `import type { B } from './b.ts';`,
      'tensor/b.ts': `import './a.ts';`,
      'runtime/browser.ts': `import type { R } from 'node:fs';\nimport { Tokenizer } from '@huggingface/tokenizers';`,
    });
    expect(check(root)).toEqual([]);
  });
});
