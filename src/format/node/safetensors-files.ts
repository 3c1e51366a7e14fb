import { join } from 'node:path';
import type { WeightPiece, WeightStore } from '../../model/config.ts';
import { byteSize, type Codec, type WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { ByteSource } from '../byte-source.ts';
import { missingWeight } from '../memory-store.ts';
import { readSafetensorsHeader, type TensorEntry } from '../safetensors.ts';
import { fileSource } from './file-source.ts';
import { isObject, readJsonObject } from './json-file.ts';

export interface ShardedTensor extends TensorEntry {
  readonly source: ByteSource;
}

const CODEC: Partial<Record<TensorEntry['dtype'], Codec>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};

/** The tensors of one or more open safetensors files. */
export interface TensorFiles {
  readonly tensors: ReadonlyMap<string, ShardedTensor>;
  close(): Promise<void>;
}

/**
 * Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, in `folder`.
 * @throws `HF_WEIGHTS_MISSING`, `HF_INDEX` when the index is malformed, leaves the folder or does not match its
 *   shards, and what `readSafetensorsHeader` throws
 */
export async function openTensorFiles(folder: string): Promise<TensorFiles> {
  const index = await readJsonObject(join(folder, 'model.safetensors.index.json'));
  const map = index === null ? null : weightMap(index);
  const names = map === null ? ['model.safetensors'] : [...new Set(map.values())].sort();
  const tensors = new Map<string, ShardedTensor>();
  const sources: ByteSource[] = [];
  const close = async () => {
    await Promise.all(sources.map((source) => source.close()));
  };
  try {
    for (const name of names) {
      const source = await fileSource(join(folder, name)).catch((error: unknown) => {
        throw new AttenuateError(
          'HF_WEIGHTS_MISSING',
          `[huggingface] no weights: expected ${name} in ${folder}, got none. Add the file; other weight formats (pytorch_model.bin) have to be converted to safetensors first.`,
          { folder, name },
          { cause: error },
        );
      });
      sources.push(source);
      for (const [tensor, entry] of (await readSafetensorsHeader(source)).tensors) {
        if (map !== null && map.get(tensor) !== name)
          throw indexError(`${tensor} in ${map.get(tensor) ?? 'no shard'}`, `it in ${name}`);
        tensors.set(tensor, { ...entry, source });
      }
    }
    for (const [tensor, name] of map ?? [])
      if (!tensors.has(tensor)) throw indexError(`${tensor} in ${name}`, 'no such tensor');
  } catch (error) {
    await close();
    throw error;
  }
  return { tensors, close };
}

const indexError = (expected: string, got: string) =>
  new AttenuateError(
    'HF_INDEX',
    `[huggingface] bad model.safetensors.index.json: expected ${expected}, got ${got}. Download the folder again.`,
    { expected, got },
  );

function weightMap(index: Record<string, unknown>): Map<string, string> {
  if (!isObject(index.weight_map)) throw indexError('a weight_map', typeof index.weight_map);
  const map = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(index.weight_map)) {
    if (typeof shard !== 'string' || !/^[\w-][\w.-]*\.safetensors$/.test(shard))
      throw indexError('names of shards in the same folder', JSON.stringify(shard));
    map.set(tensor, shard);
  }
  return map;
}

/** The spec of a tensor that is used as a weight. @throws `HF_DTYPE` */
export function specOf(tensor: TensorEntry): WeightSpec {
  const codec = CODEC[tensor.dtype];
  if (!codec)
    throw new AttenuateError(
      'HF_DTYPE',
      `[huggingface] weight of another type: expected F32, F16 or BF16, got ${tensor.dtype} for ${tensor.name}. Convert the model to one of those.`,
      { name: tensor.name, dtype: tensor.dtype },
    );
  return { codec, shape: tensor.shape };
}

/** A store that reads each weight from its file when asked, or all of them in file order. `close` closes the files. */
export function tensorStore(
  weights: ReadonlyMap<string, ShardedTensor>,
  files: readonly TensorFiles[],
): WeightStore {
  const specs = new Map([...weights].map(([name, tensor]) => [name, specOf(tensor)]));
  return {
    specs,
    async read(name) {
      const tensor = weights.get(name);
      if (!tensor) throw missingWeight(name);
      return {
        ...specs.get(name)!,
        bytes: await tensor.source.read(tensor.offset, byteSize(specs.get(name)!)),
      };
    },
    async *stream(signal): AsyncIterable<WeightPiece> {
      const order = [...weights].sort(([, a], [, b]) => a.offset - b.offset);
      for (const source of new Set([...weights.values()].map((tensor) => tensor.source)))
        yield* cut(
          source,
          order.filter(([, tensor]) => tensor.source === source),
          signal,
        );
    },
    async close() {
      await Promise.all(files.map((file) => file.close()));
    },
  };
}

/** One pass over a file through the source's own buffer, giving the bytes of some of its tensors, in file order. */
async function* cut(
  source: ByteSource,
  tensors: readonly (readonly [name: string, tensor: ShardedTensor])[],
  signal?: AbortSignal,
): AsyncIterable<WeightPiece> {
  let at = 0;
  let index = 0;
  for await (const chunk of source.stream(signal)) {
    const end = at + chunk.length;
    for (; index < tensors.length && tensors[index][1].offset < end; index++) {
      const [name, { offset, byteLength }] = tensors[index];
      const from = Math.max(offset, at);
      const to = Math.min(offset + byteLength, end);
      if (to > from) yield { name, offset: from - offset, bytes: chunk.subarray(from - at, to - at) };
      if (to < offset + byteLength) break;
    }
    at = end;
  }
}
