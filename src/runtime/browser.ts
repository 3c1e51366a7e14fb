import { loadLocal } from './browser-local.ts';
import { loadRemote } from './remote.ts';
import type { LoadOptions, TextModel } from './types.ts';

export { AttenuateError } from '../tensor/error.ts';
export type * from './types.ts';

/**
 * Loads an artifact in a browser. In a page the model lives in a worker, so that the page never blocks; inside a
 * worker it lives right there. Opens no connection but the model's URL and the worker's own file.
 * @throws what the artifact's reader throws; `WORKER_FAILED`; `OUT_OF_MEMORY`; the signal's reason after an abort
 */
export async function load(
  source: string | URL | Uint8Array | ArrayBuffer,
  options: LoadOptions = {},
): Promise<TextModel> {
  const inPage = typeof document !== 'undefined';
  const address = options.worker === undefined ? null : String(options.worker);
  const from =
    source instanceof Uint8Array
      ? source
      : source instanceof ArrayBuffer
        ? new Uint8Array(source)
        : new URL(source, inPage ? document.baseURI : location.href).href;
  if (!inPage) return loadLocal(from, options, address ?? new URL('./worker.js', import.meta.url).href);
  if (options.worker === false) return loadLocal(from, options, null);
  // Bundlers recognise exactly this form and emit the worker as a file of its own.
  const worker = address
    ? new Worker(new URL(address, document.baseURI), { type: 'module' })
    : new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  return loadRemote(worker, from, options);
}
