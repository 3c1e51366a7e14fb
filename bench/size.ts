import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';
import { bundleRuntime } from '../scripts/bundle.ts';
import { betterBy, failedRow, type Row } from './report.ts';

const compress = promisify(brotliCompress);
const brotliBytes = async (bytes: Uint8Array): Promise<number> =>
  (await compress(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } }))
    .length;

/** What a page downloads to embed text: the browser entry, its worker, and what both load for every model. */
export async function bundleSizes(): Promise<Record<string, number>> {
  const sizes: Record<string, number> = {};
  for (const { name, bytes, onDemand } of await bundleRuntime())
    if (!onDemand) sizes[name] = await brotliBytes(bytes);
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
