import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';
import { build } from 'esbuild';
import { betterBy, failedRow, type Row } from './report.ts';

const compress = promisify(brotliCompress);
const brotliBytes = async (bytes: Uint8Array): Promise<number> =>
  (await compress(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } }))
    .length;

const RUNTIME = new URL('../src/runtime/', import.meta.url);
const BROWSER_ENTRY = 'browser.ts';

/** What a page downloads to embed text: the browser entry and the worker files that it starts. */
export async function bundleSizes(): Promise<Record<string, number>> {
  const files = await readdir(RUNTIME, { recursive: true });
  const workers = files.filter((name) => /worker\.ts$/.test(name) && !/\bnode\b/.test(name));
  const sizes: Record<string, number> = {};
  for (const name of [BROWSER_ENTRY, ...workers]) {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL(name, RUNTIME))],
      bundle: true,
      minify: true,
      format: 'esm',
      platform: 'browser',
      target: 'es2023',
      write: false,
      logLevel: 'silent',
    });
    sizes[name] = await brotliBytes(outputFiles[0].contents);
  }
  return sizes;
}

/** The peer's smallest build for a page on the processor: its WebAssembly-only script and binary. */
async function peerSize(): Promise<number> {
  const dist = new URL('./node_modules/onnxruntime-web/dist/', import.meta.url);
  const files = ['ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'];
  const sizes = await Promise.all(
    files.map(async (file) => brotliBytes(await readFile(new URL(file, dist)))),
  );
  return sizes.reduce((a, b) => a + b, 0);
}

export async function size(): Promise<Row[]> {
  try {
    const sizes = await bundleSizes();
    const ours = Object.values(sizes).reduce((a, b) => a + b, 0);
    const peer = await peerSize();
    return [
      {
        id: 'bundle-brotli',
        metric: 'download of the runtime, brotli',
        unit: 'bytes',
        better: 'lower',
        ours,
        peers: { 'onnxruntime-web': peer },
        ratio: betterBy('lower', ours, peer),
        agrees: null,
        tolerance: null,
        note: `${Object.entries(sizes)
          .map(([name, bytes]) => `${name} ${bytes}`)
          .join(', ')}; ours has the tokenizer, the peer has none`,
      },
    ];
  } catch (error) {
    return [failedRow('bundle-brotli', error)];
  }
}
