import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const root = resolve(import.meta.dirname, '..');

export interface BundledFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const browser: BuildOptions = {
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2023',
  legalComments: 'none',
  logLevel: 'warning',
  write: false,
};

/** What a page downloads to run a model: the browser entry and the file of its workers, side by side. */
export async function bundleRuntime(): Promise<BundledFile[]> {
  const files = [];
  for (const [name, entry] of [
    ['attenuate.js', 'src/runtime/browser.ts'],
    ['worker.js', 'src/runtime/worker.ts'],
  ])
    files.push(...(await bundle(join(root, entry), name)));
  return files;
}

/** A page's own script. It imports the runtime as `./attenuate.js`, the very file that `bundleRuntime` gives. */
export function bundlePageScript(entry: string, name: string): Promise<BundledFile[]> {
  const runtime: Plugin = {
    name: 'runtime-is-a-file-of-its-own',
    setup: ({ onResolve }) =>
      onResolve({ filter: /\/runtime\/browser\.ts$/ }, () => ({ path: './attenuate.js', external: true })),
  };
  return bundle(entry, name, [runtime]);
}

async function bundle(entry: string, name: string, plugins: Plugin[] = []): Promise<BundledFile[]> {
  if (!existsSync(entry)) throw new Error(`[bundle] missing entry: expected ${entry}, got nothing.`);
  const { outputFiles } = await build({ ...browser, entryPoints: [entry], plugins });
  return outputFiles!.map(({ contents }) => ({ name, bytes: contents }));
}
