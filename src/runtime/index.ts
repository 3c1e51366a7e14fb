import { openArtifact } from '../format/artifact.ts';
import { bytesSource, urlSource } from '../format/byte-source.ts';
import { openModel } from '../format/node/open.ts';
import type { Model } from '../model/config.ts';
import { loadOn } from './load.ts';
import { nodePlatform } from './node/platform.ts';
import type { LoadOptions, TextModel } from './types.ts';

export { AttenuateError } from '../tensor/error.ts';
export type * from './types.ts';

/**
 * Loads a model in Node: an artifact (path, `file:` or `http(s):` URL, or its bytes), or a folder that `openModel`
 * knows. Opens no connection but the URL given.
 * @throws what the file's reader throws; `OUT_OF_MEMORY`; the signal's reason after an abort
 */
export async function load(
  source: string | URL | Uint8Array | ArrayBuffer,
  options: LoadOptions = {},
): Promise<TextModel> {
  const model = await open(source, options.signal);
  try {
    return await loadOn(nodePlatform, model, options);
  } finally {
    await model.weights.close?.();
  }
}

/** Loads a Model that is already open, e.g. one that recipe steps made. */
export const loadModel = (model: Model, options: LoadOptions = {}): Promise<TextModel> =>
  loadOn(nodePlatform, model, options);

async function open(source: string | URL | Uint8Array | ArrayBuffer, signal?: AbortSignal): Promise<Model> {
  if (source instanceof Uint8Array || source instanceof ArrayBuffer) return openArtifact(bytesSource(source));
  const text = String(source);
  if (/^https?:/.test(text)) return openArtifact(urlSource(text, { signal }));
  return openModel(text.startsWith('file:') ? new URL(text) : text);
}
