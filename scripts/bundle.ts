import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const root = resolve(import.meta.dirname, '..');

export interface BundledFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Whether a page downloads it only for the models that need it: an attention mechanism, or an op's kernels. */
  readonly onDemand: boolean;
}

const browser: BuildOptions = {
  bundle: true,
  splitting: true,
  outdir: root,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2023',
  legalComments: 'none',
  logLevel: 'warning',
  write: false,
};

/**
 * What a page downloads to run a model: the browser entry, the file of its workers, and what both share as a
 * chunk of its own, so that it travels once. What is imported while running is built apart and brings along what it
 * shares with the rest: cut along every such border, the part that every page needs would fall into many small files.
 */
export async function bundleRuntime(): Promise<BundledFile[]> {
  const later = new Map<string, string>();
  const apart: Plugin = {
    name: 'built-apart',
    setup: ({ onResolve }) =>
      onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) => {
        const file = resolve(resolveDir, path);
        // Every model has some attention, and by default it is dense.
        if (kind !== 'dynamic-import' || file.endsWith('mechanisms/dense.ts')) return null;
        const name = `${basename(dirname(file))}-${basename(file, '.ts')}`;
        later.set(name, file);
        return { path: `./${name}.js`, external: true };
      }),
  };
  const always = await bundle(
    { attenuate: join(root, 'src/runtime/browser.ts'), worker: join(root, 'src/runtime/worker.ts') },
    [apart],
  );
  const rest = await bundle(Object.fromEntries(later));
  return [...always, ...rest.map((file) => ({ ...file, onDemand: true }))];
}

/** A page's own script, `name` without its ending. It imports the runtime as `./attenuate.js`, the very file that `bundleRuntime` gives. */
export function bundlePageScript(entry: string, name: string): Promise<BundledFile[]> {
  const runtime: Plugin = {
    name: 'runtime-is-a-file-of-its-own',
    setup: ({ onResolve }) =>
      onResolve({ filter: /\/runtime\/browser\.ts$/ }, () => ({ path: './attenuate.js', external: true })),
  };
  return bundle({ [name]: entry }, [runtime]);
}

async function bundle(entryPoints: Record<string, string>, plugins: Plugin[] = []): Promise<BundledFile[]> {
  for (const entry of Object.values(entryPoints))
    if (!existsSync(entry)) throw new Error(`[bundle] missing entry: expected ${entry}, got nothing.`);
  const { outputFiles } = await build({ ...browser, entryPoints, plugins });
  return outputFiles!.map(({ path, contents }) => ({
    name: basename(path),
    bytes: contents,
    onDemand: false,
  }));
}
