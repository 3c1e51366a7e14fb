import { join } from 'node:path';
import { elements } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { ByteSource } from '../byte-source.ts';
import { fileSource } from './file-source.ts';
import { isObject, type JsonObject } from './json-file.ts';

export interface TfjsTensor {
  readonly dtype: 'float32' | 'int32';
  readonly shape: readonly number[];
  /** First byte, counted over all shards of the tensor's group laid end to end. */
  readonly offset: number;
  readonly byteLength: number;
  readonly group: number;
}

/** The weights of a TensorFlow.js graph or layers model: a manifest, and groups of shards. */
export interface TfjsWeights {
  readonly tensors: ReadonlyMap<string, TfjsTensor>;
  /** The tensor's bytes at the start of a buffer of their own. */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

const bad = (expected: string, got: unknown) =>
  new AttenuateError(
    'TFJS_MANIFEST',
    `[tfjs] bad weights: expected ${expected}, got ${got}. Download the model again.`,
    { expected, got },
  );

/**
 * Opens the shards that a `model.json` names and checks that they hold exactly what its manifest says.
 * @throws `TFJS_MANIFEST`, `FILE_OPEN`
 */
export async function openTfjs(folder: string, manifest: JsonObject): Promise<TfjsWeights> {
  if (!Array.isArray(manifest.weightsManifest))
    throw bad('a weightsManifest', typeof manifest.weightsManifest);
  const tensors = new Map<string, TfjsTensor>();
  const groups: ByteSource[][] = [];
  const close = async () => {
    await Promise.all(groups.flat().map((source) => source.close()));
  };
  try {
    for (const group of manifest.weightsManifest as unknown[]) {
      if (!isObject(group) || !Array.isArray(group.paths) || !Array.isArray(group.weights))
        throw bad('groups of paths and weights', JSON.stringify(group)?.slice(0, 100));
      const sources: ByteSource[] = [];
      groups.push(sources);
      for (const path of group.paths) {
        if (typeof path !== 'string' || !/^[\w-][\w.-]*$/.test(path))
          throw bad('names of shards in the same folder', JSON.stringify(path));
        sources.push(await fileSource(join(folder, path)));
      }
      let at = 0;
      for (const weight of group.weights) at += addTensor(tensors, weight, at, groups.length - 1);
      const total = sources.reduce((sum, source) => sum + source.size!, 0);
      if (at !== total) throw bad(`${at} bytes in ${sources.length} shards`, total);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    tensors,
    close,
    async read(name) {
      const tensor = tensors.get(name);
      if (!tensor) throw bad(`weight ${name}`, 'none of that name');
      const out = new Uint8Array(tensor.byteLength);
      let start = 0;
      for (const source of groups[tensor.group]) {
        const from = Math.max(tensor.offset, start);
        const to = Math.min(tensor.offset + tensor.byteLength, start + source.size!);
        if (from < to) out.set(await source.read(from - start, to - from), from - tensor.offset);
        start += source.size!;
      }
      return out;
    },
  };
}

function addTensor(tensors: Map<string, TfjsTensor>, weight: unknown, offset: number, group: number): number {
  if (!isObject(weight) || typeof weight.name !== 'string' || tensors.has(weight.name))
    throw bad('weights of different names', JSON.stringify(weight)?.slice(0, 100));
  const { name, dtype, shape, quantization } = weight;
  if ((dtype !== 'float32' && dtype !== 'int32') || quantization !== undefined)
    throw bad(
      `plain float32 or int32 for ${name}`,
      `${dtype}${quantization === undefined ? '' : ', quantised'}`,
    );
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every((d) => Number.isSafeInteger(d) && d >= 0))
    throw bad(`a shape for ${name}`, JSON.stringify(shape)?.slice(0, 100));
  const byteLength = 4 * elements(shape);
  if (!Number.isSafeInteger(offset + byteLength)) throw bad(`a size below 2^53 for ${name}`, `[${shape}]`);
  tensors.set(name, { dtype, shape, offset, byteLength, group });
  return byteLength;
}
