import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
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
 * chunk of its own, so that it travels once.
 */
export function bundleRuntime(): Promise<BundledFile[]> {
  return bundle({
    attenuate: join(root, 'src/runtime/browser.ts'),
    worker: join(root, 'src/runtime/worker.ts'),
  });
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
  const { outputFiles, metafile } = await build({ ...browser, entryPoints, plugins, metafile: true });
  const outputs = new Map(Object.entries(metafile!.outputs).map(([path, made]) => [basename(path), made]));
  // Every model has some attention, and by default it is dense.
  const always = new Set(
    [...outputs].filter(([name, { entryPoint }]) => isAlways(name, entryPoint)).map(([name]) => name),
  );
  for (const name of always)
    for (const { path, kind } of outputs.get(name)?.imports ?? [])
      if (kind === 'import-statement') always.add(basename(path));
  return outputFiles!.map(({ path, contents }) => ({
    name: basename(path),
    bytes: contents,
    onDemand: !always.has(basename(path)),
  }));

  function isAlways(name: string, entry: string | undefined): boolean {
    return name.slice(0, -3) in entryPoints || entry === 'src/attention/mechanisms/dense.ts';
  }
}
