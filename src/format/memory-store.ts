import type { WeightStore } from '../model/config.ts';
import { byteSize, specOf, type Weight } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';

export function missingWeight(name: string): AttenuateError {
  return new AttenuateError(
    'WEIGHT_MISSING',
    `[read] missing weight: expected ${name}, got none of that name. Check that the configuration belongs to these weights.`,
    { name },
  );
}

/** A store over weights in memory, shared and not copied. @throws `WEIGHT_SHAPE` when bytes do not fit a shape; `read` throws `WEIGHT_MISSING` */
export function memoryStore(weights: ReadonlyMap<string, Weight>): WeightStore {
  for (const [name, weight] of weights)
    if (weight.bytes.length !== byteSize(weight))
      throw new AttenuateError(
        'WEIGHT_SHAPE',
        `[memoryStore] wrong number of bytes in ${name}: expected ${byteSize(weight)} for ${weight.codec} [${weight.shape}], got ${weight.bytes.length}. Encode the weight again.`,
        { name },
      );
  return {
    specs: new Map([...weights].map(([name, weight]) => [name, specOf(weight)])),
    async read(name) {
      const weight = weights.get(name);
      if (!weight) throw missingWeight(name);
      return weight;
    },
  };
}
