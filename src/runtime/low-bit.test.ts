import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { runReference } from '../backend/reference/interpreter.ts';
import { bytesSource, encodeArtifact, openArtifact } from '../format/index.ts';
import type { HeadSpec, Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { isMatrix, names } from '../model/names.ts';
import { decode, encode, specOf, type Weight, type WeightSpec } from '../tensor/codec.ts';
import { loadModel } from './index.ts';

type Stored = Omit<WeightSpec, 'shape'>;

/** The made encoder with its matrices stored otherwise, its word table too. */
async function stored(head: HeadSpec, of: (name: string) => Stored): Promise<[Model, Map<string, Weight>]> {
  const model = madeEncoder(head);
  const weights = new Map<string, Weight>();
  for (const name of model.weights.specs.keys()) {
    const weight = await model.weights.read(name);
    weights.set(name, isMatrix(name) ? encode({ ...of(name), shape: weight.shape }, decode(weight)) : weight);
  }
  const specs = new Map([...weights].map(([name, weight]) => [name, specOf(weight)]));
  return [{ ...model, weights: { specs, read: async (name) => weights.get(name)! } }, weights];
}

const ALL: Stored[] = [
  { codec: 'float16' },
  { codec: 'bfloat16' },
  { codec: 'int8' },
  { codec: 'int8', perTensor: true },
  { codec: 'int4' },
  { codec: 'int4', groupSize: 32 },
  { codec: 'int4', groupSize: 32, scheme: 'affine', scaleType: 'float32' },
  { codec: 'int2', groupSize: 32, scheme: 'affine' },
  { codec: 'ternary', groupSize: 32 },
  { codec: 'binary' },
];

/** Query, key and value are one product: its parts are stored each otherwise. */
const mixed = (name: string): Stored =>
  name.includes('query')
    ? { codec: 'int4', groupSize: 32 }
    : name.includes('key')
      ? { codec: 'ternary' }
      : name === names.word
        ? { codec: 'int4', scheme: 'affine' }
        : { codec: 'int8' };

const IDS = [2, 9, 4, 17, 3];

async function expectReference(model: Model, weights: Map<string, Weight>): Promise<void> {
  const program = await traceEncoder(model.config, model.weights.specs);
  for (const level of ['auto', 'simd128'] as const) {
    const loaded = await loadModel(model, { level });
    try {
      const inputs = { ids: IDS, lengths: [IDS.length], types: IDS.map(() => 0), rows: [0] };
      const levels = loaded.info.dot === 'u7' ? 128 : 256;
      const [want] = runReference(program, weights, inputs, { B: 1, N: IDS.length, P: 1 }, levels);
      const [got] = await loaded.run([IDS]);
      expect(got.length).toBe(want.length);
      const error = want.reduce((sum, r, i) => sum + (got[i] - r) ** 2, 0);
      const norm = want.reduce((sum, r) => sum + r * r, 0);
      // One activation that is rounded to the next code, at most.
      expect(Math.sqrt(error / norm)).toBeLessThan(0.01);
    } finally {
      loaded.dispose();
    }
  }
}

describe.each<HeadSpec>([
  { kind: 'embedding', pooling: 'mean', dense: false, normalize: true },
  // Its head multiplies with the word table, which the embedding looks words up in.
  { kind: 'maskedToken', activation: 'gelu' },
])('a model with a head of kind $kind', (head) => {
  it.each(ALL.map((of) => [JSON.stringify(of), of] as const))(
    'runs with every matrix stored as %s',
    async (_, of) => {
      await expectReference(...(await stored(head, () => of)));
    },
  );

  it.each(['float16', 'bfloat16'] as const)(
    'gives with %s what its numbers give in float32, to the bit',
    async (codec) => {
      const [model, weights] = await stored(head, () => ({ codec }));
      const wide = new Map(
        [...weights].map(([name, w]) => [name, encode('float32', w.shape, Float32Array.from(decode(w)))]),
      );
      const specs = new Map([...wide].map(([name, weight]) => [name, specOf(weight)]));
      const float = { ...model, weights: { specs, read: async (name: string) => wide.get(name)! } };
      const rows = [];
      for (const each of [model, float]) {
        const loaded = await loadModel(each, { threads: 1 });
        rows.push((await loaded.run([IDS, [...IDS, ...IDS, ...IDS]])).map((row) => row.slice()));
        loaded.dispose();
      }
      expect(rows[0]).toEqual(rows[1]);
    },
  );

  it('runs with products that mix codecs', async () => {
    await expectReference(...(await stored(head, mixed)));
  });

  it('survives an artifact', async () => {
    const [model, weights] = await stored(head, mixed);
    const opened = await openArtifact(bytesSource(await encodeArtifact(model)));
    for (const [name, weight] of weights)
      expect(await opened.weights.read(name)).toEqual({ ...specOf(weight), bytes: weight.bytes });
  });
});
