import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { scanImports } from './imports.ts';

/** The arrow rule: a folder of `src` and the folders that it may import. Its own files are always allowed. */
export const ARROWS: Readonly<Record<string, readonly string[] | 'everything'>> = {
  tensor: [],
  program: ['tensor'],
  attention: ['program', 'tensor'],
  model: ['program', 'attention', 'tensor'],
  format: ['tensor', 'model'],
  'backend/reference': ['program', 'tensor'],
  'backend/wasm': ['program', 'tensor'],
  runtime: ['backend/wasm', 'attention', 'model', 'format', 'program', 'tensor'],
  train: ['attention', 'backend/wasm', 'runtime', 'format', 'model', 'device', 'program', 'tensor'],
  compress: ['backend/reference', 'attention', 'train', 'runtime', 'model', 'program', 'tensor', 'format'],
  device: ['program', 'tensor'],
  optimize: [
    'attention',
    'train',
    'backend/wasm',
    'compress',
    'runtime',
    'format',
    'model',
    'device',
    'program',
    'tensor',
  ],
  report: ['attention', 'optimize', 'device', 'tensor', 'program'],
  cli: 'everything',
};

/** What a page downloads holds only what its kernels need: neither every op's definition nor a cost model. */
export const KEPT_OUT: Readonly<Record<string, readonly string[]>> = {
  'backend/wasm': ['program/ops/registry.ts', 'program/cost.ts'],
};

interface PageRule {
  readonly entries: readonly string[];
  readonly folders: readonly string[];
  readonly packages: readonly string[];
  readonly keptOut: readonly string[];
}

const RUNS = ['tensor', 'program', 'attention', 'model', 'format', 'backend/wasm', 'runtime'];

/** Pages that run a model, and pages that compress and train one. */
export const PAGES: readonly PageRule[] = [
  {
    entries: ['runtime/browser.ts', 'runtime/worker.ts'],
    folders: RUNS,
    packages: ['@huggingface/tokenizers'],
    keptOut: ['program/ops/registry.ts', 'program/cost.ts', 'attention/all.ts'],
  },
  {
    entries: ['compress/index.ts', 'format/browser.ts', 'train/browser.ts'],
    folders: [...RUNS, 'backend/reference', 'compress', 'train', 'device'],
    packages: ['@huggingface/tokenizers', 'zod'],
    keptOut: [],
  },
];

interface Edge {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
  /** Path below the root, or null for a package. */
  readonly target: string | null;
  readonly typeOnly: boolean;
}

type Graph = ReadonlyMap<string, readonly Edge[]>;

const isTest = (file: string) => file.endsWith('.test.ts');
const posix = (path: string) => path.replaceAll('\\', '/');
const at = ({ file, line, specifier }: Edge) => `${file}:${line} imports ${specifier}`;

export function folderOf(file: string): string {
  const parts = file.split('/');
  return parts[0] === 'backend' && parts.length > 2
    ? `backend/${parts[1]}`
    : parts.length > 1
      ? parts[0]
      : '';
}

function readGraph(root: string): Graph {
  const graph = new Map<string, readonly Edge[]>();
  for (const entry of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const file = posix(entry);
    if (!file.endsWith('.ts') || file.endsWith('.d.ts') || isTest(file)) continue;
    const path = join(root, entry);
    const edges = scanImports(readFileSync(path, 'utf8')).map(({ specifier, typeOnly, line }) => ({
      file,
      line,
      specifier,
      typeOnly,
      target: specifier.startsWith('.') ? posix(relative(root, resolve(dirname(path), specifier))) : null,
    }));
    graph.set(file, edges);
  }
  return graph;
}

/** Each breach of the rules in a source tree, as a sentence; none for a good tree. Tests may import anything. */
export function check(root: string): string[] {
  const graph = readGraph(root);
  return [...arrows(graph), ...browser(graph), ...cycles(graph)];
}

function* arrows(graph: Graph): Iterable<string> {
  for (const [file, edges] of graph) {
    const folder = folderOf(file);
    const allowed = ARROWS[folder];
    if (!allowed) {
      yield `${file}: the folder "${folder}" has no row in ARROWS (scripts/dependencies.ts)`;
      continue;
    }
    for (const edge of edges) {
      const { target } = edge;
      if (target === null) continue;
      if (target.startsWith('../')) {
        if (target !== '../package.json') yield `${at(edge)}: it lies outside src`;
        continue;
      }
      if (!graph.has(target) && !target.endsWith('.json')) yield `${at(edge)}: no such source file`;
      const to = folderOf(target);
      if (allowed !== 'everything' && to !== folder && !allowed.includes(to))
        yield `${at(edge)}: ${folder} may import ${allowed.join(', ') || 'nothing'}, not ${to}`;
      if (KEPT_OUT[folder]?.includes(target)) yield `${at(edge)}: ${folder} must do without it`;
    }
  }
}

/** Follows what is loaded from the entries of pages; each finding names the chain that leads to it. */
function* browser(graph: Graph): Iterable<string> {
  for (const rule of PAGES) for (const entry of rule.entries) yield* downloads(graph, entry, rule);
}

function* downloads(graph: Graph, entry: string, { folders, packages, keptOut }: PageRule): Iterable<string> {
  const from = new Map<string, string | null>(graph.has(entry) ? [[entry, null]] : []);
  const chain = (file: string): string => {
    const before = from.get(file);
    return before ? `${chain(before)} → ${file}` : file;
  };
  for (const file of from.keys())
    for (const edge of graph.get(file) ?? []) {
      if (edge.typeOnly) continue;
      const { target, specifier } = edge;
      if (target === null) {
        if (!packages.includes(packageOf(specifier))) yield `${at(edge)}: not in a browser (${chain(file)})`;
        continue;
      }
      if (!folders.includes(folderOf(target)) || keptOut.includes(target))
        yield `${at(edge)}: a page would download it (${chain(file)})`;
      if (!from.has(target)) from.set(target, file);
    }
}

const packageOf = (specifier: string): string =>
  specifier.startsWith('node:')
    ? specifier
    : specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

function* cycles(graph: Graph): Iterable<string> {
  const done = new Set<string>();
  const path: string[] = [];
  const found: string[] = [];
  const visit = (file: string) => {
    const open = path.indexOf(file);
    if (open >= 0) found.push(`cycle: ${[...path.slice(open), file].join(' → ')}`);
    if (open >= 0 || done.has(file)) return;
    path.push(file);
    for (const { target, typeOnly } of graph.get(file) ?? [])
      if (!typeOnly && target !== null && graph.has(target)) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) visit(file);
  yield* found;
}

if (process.argv[1] === import.meta.filename) {
  const root = resolve(import.meta.dirname, '../src');
  const problems = existsSync(root) ? check(root) : [`no folder ${root}`];
  for (const problem of problems) console.error(problem);
  console.log(
    problems.length === 0 ? 'dependencies: every arrow points down' : `${problems.length} breaches`,
  );
  process.exitCode = problems.length === 0 ? 0 : 1;
}
