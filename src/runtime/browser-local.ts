import type { PoolMember } from '../backend/wasm/pool.ts';
import { openArtifact } from '../format/artifact.ts';
import { bytesSource, urlSource } from '../format/byte-source.ts';
import { loadOn } from './load.ts';
import type { Platform } from './platform.ts';
import type { LoadOptions, TextModel } from './types.ts';

/** Helper threads are workers of the same file as the worker that holds the model. */
const platform = (workerUrl: string | null): Platform => {
  const threads = workerUrl !== null && globalThis.crossOriginIsolated === true;
  return {
    name: 'browser',
    defaultThreads: threads ? navigator.hardwareConcurrency || 1 : 1,
    maxThreads: threads ? navigator.hardwareConcurrency || 1 : 1,
    threadsReason:
      workerUrl === null
        ? "a page's own thread may not wait for others"
        : 'the page is not cross-origin isolated (COOP and COEP headers)',
    enableWide: () => false,
    spawn: async (members: readonly PoolMember[]) => {
      const workers = members.map((member) => {
        const worker = new Worker(workerUrl!, { type: 'module' });
        worker.postMessage({ kind: 'serve', member });
        return worker;
      });
      await Promise.all(
        workers.map(
          (worker) =>
            new Promise<void>((resolve, reject) => {
              worker.onmessage = () => resolve();
              worker.onerror = reject;
            }),
        ),
      );
      return { terminate: () => workers.forEach((w) => void w.terminate()) };
    },
  };
};

/** Loads on this very thread: inside a worker, or in a page that asked for it. `workerUrl` is where helpers come from. */
export async function loadLocal(
  source: string | Uint8Array,
  options: LoadOptions,
  workerUrl: string | null,
): Promise<TextModel> {
  const bytes = typeof source === 'string' && options.cache ? await cached(source, options.signal) : source;
  const model = await openArtifact(
    typeof bytes === 'string' ? urlSource(bytes, { signal: options.signal }) : bytesSource(bytes),
  );
  try {
    return await loadOn(platform(workerUrl), model, options);
  } finally {
    await model.weights.close?.();
  }
}

const CACHE = 'attenuate-artifacts';

/** The artifact from the browser's cache where the server says that it is unchanged, else from the server. */
async function cached(url: string, signal?: AbortSignal): Promise<Uint8Array | string> {
  if (!('caches' in globalThis)) return url;
  const cache = await caches.open(CACHE);
  const known = await cache.match(url);
  if (known) return new Uint8Array(await known.arrayBuffer());
  const response = await fetch(url, { signal });
  if (!response.ok) return url;
  const bytes = new Uint8Array(await response.clone().arrayBuffer());
  await cache.put(url, response);
  return bytes;
}
