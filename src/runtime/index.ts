import { probeFeatures } from '../backend/wasm/probe.ts';
import { type TimedTile, tuneTiles } from '../backend/wasm/tune.ts';
import { type Artifact, openArtifact } from '../format/artifact.ts';
import { bytesSource, urlSource } from '../format/byte-source.ts';
import { openModel } from '../format/node/open.ts';
import type { Model } from '../model/config.ts';
import { tilesKey } from './configure.ts';
import { loadOn } from './load.ts';
import { nodePlatform } from './node/platform.ts';
import { rememberTiles, tuningFile } from './node/tuning-store.ts';
import type { LoadOptions, TextModel } from './types.ts';

export { AttenuateError } from '../tensor/error.ts';
export type * from './types.ts';

/**
 * Loads a model in Node: an artifact (path, `file:` or `http(s):` URL, or its bytes), or a folder that `openModel`
 * knows. Opens no connection but the URL given.
 * @throws what the file's reader throws; `OUT_OF_MEMORY`; `AGREEMENT_FAILED` when this device computes something else; the signal's reason after an abort
 */
export async function load(
  source: string | URL | Uint8Array | ArrayBuffer,
  options: LoadOptions = {},
): Promise<TextModel> {
  const model = await open(source, options.signal);
  try {
    return await loadOn(nodePlatform, model, options, 'probe' in model ? model : undefined);
  } finally {
    await model.weights.close?.();
  }
}

/** Loads a Model that is already open, e.g. one that recipe steps made. */
export const loadModel = (model: Model, options: LoadOptions = {}): Promise<TextModel> =>
  loadOn(nodePlatform, model, options);

async function open(
  source: string | URL | Uint8Array | ArrayBuffer,
  signal?: AbortSignal,
): Promise<Model | Artifact> {
  if (source instanceof Uint8Array || source instanceof ArrayBuffer) return openArtifact(bytesSource(source));
  const text = String(source);
  if (/^https?:/.test(text)) return openArtifact(urlSource(text, { signal }));
  return openModel(text.startsWith('file:') ? new URL(text) : text);
}

/**
 * Finds the best kernel tiles on this device and remembers them for this engine and processor: later loads take them.
 * Takes about a second; a load never does this by itself.
 */
export async function tune(): Promise<{
  tiles: { float32: number; int8: number };
  timed: TimedTile[];
  file: string;
}> {
  const features = { ...probeFeatures(), panel: 8 } as const;
  const found = await tuneTiles(features);
  await rememberTiles(tilesKey(features), found.tiles);
  return { ...found, file: tuningFile() };
}
