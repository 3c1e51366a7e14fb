import { openArtifact } from '../format/artifact.ts';
import { bytesSource, urlSource } from '../format/byte-source.ts';
import { AttenuateError } from '../tensor/error.ts';
import { browserPlatform } from './browser-platform.ts';
import { loadOn } from './load.ts';
import type { LoadOptions, TextModel } from './types.ts';

/** Loads on this very thread: inside a worker, or in a page that asked for it. `workerUrl` is where helpers come from. */
export async function loadLocal(
  source: string | Uint8Array,
  options: LoadOptions,
  workerUrl: string | null,
): Promise<TextModel> {
  const bytes =
    typeof source === 'string' && options.cache
      ? await cached(source, options.cache, options.signal)
      : source;
  const model = await openArtifact(
    typeof bytes === 'string' ? urlSource(bytes, { signal: options.signal }) : bytesSource(bytes),
  );
  try {
    return await loadOn(browserPlatform(workerUrl), model, options, model);
  } finally {
    await model.weights.close?.();
  }
}

const CACHE = 'attenuate-artifacts';

/** The artifact of this hash from the browser's cache, else from its address, and kept if the hash is its own. */
async function cached(url: string, hash: string, signal?: AbortSignal): Promise<Uint8Array | string> {
  if (!('caches' in globalThis)) return url;
  const cache = await caches.open(CACHE);
  const key = new URL(`/.attenuate/${encodeURIComponent(hash)}`, location.href).href;
  const known = await cache.match(key);
  if (known) return new Uint8Array(await known.arrayBuffer());
  const response = await fetch(url, { signal });
  if (!response.ok) return url;
  const bytes = new Uint8Array(await response.arrayBuffer());
  const artifact = await openArtifact(bytesSource(bytes));
  if (artifact.hash !== hash)
    throw new AttenuateError(
      'ARTIFACT_HASH',
      `[load] another artifact at this address: expected hash ${hash}, got ${artifact.hash}. Name the hash of the file that is there.`,
      { expected: hash, got: artifact.hash },
    );
  await cache.put(key, new Response(bytes));
  return bytes;
}
