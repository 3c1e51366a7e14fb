import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import type { LayerSample } from '../attention/mechanism.ts';
import { runReferenceAll } from '../backend/reference/interpreter.ts';
import { applyRecipe } from '../compress/index.ts';
import { createTokenizer } from '../format/index.ts';
import { traceEncoder } from '../model/encoder.ts';
import { names } from '../model/names.ts';
import { decode, type Weight } from '../tensor/codec.ts';
import { calibrationFrom } from './calibration.ts';

const TEXTS = ['a small model runs', 'every word known to it', 'quick brown fox in the page and node alike'];

async function all(samples: AsyncIterable<LayerSample>): Promise<LayerSample[]> {
  const out: LayerSample[] = [];
  for await (const sample of samples) out.push(sample);
  return out;
}

describe('calibrationFrom', () => {
  it('gives what a layer sees, and its projections', async () => {
    const model = madeEncoder();
    const calibration = await calibrationFrom(model, TEXTS);
    const [sample, ...rest] = await all(calibration.layer(1));
    expect(rest).toHaveLength(2);
    const { ids, types } = (await createTokenizer(model.tokenizer!, 64)).encode(TEXTS[0]);
    expect(sample.n).toBe(ids.length);
    const weights = new Map<string, Weight>();
    for (const name of model.weights.specs.keys()) weights.set(name, await model.weights.read(name));
    const program = await traceEncoder(model.config, model.weights.specs);
    const values = runReferenceAll(
      program,
      weights,
      { ids, types, lengths: [ids.length] },
      { B: 1, N: ids.length },
      128,
    );
    const norms = program.nodes.filter(({ kind }) => kind === 'layerNorm');
    const expected = values.get(norms[2].outputs[0].name)!.data;
    expect(Math.max(...sample.x.data.map((v, i) => Math.abs(v - expected[i])))).toBeLessThan(1e-4);

    const { heads, headSize, inputSize: C } = model.config.layers[1];
    const key = decode(weights.get(`${names.layer(1).key}.weight`)!);
    const bias = decode(weights.get(`${names.layer(1).key}.bias`)!);
    for (const [h, i, d] of [
      [0, 0, 0],
      [heads - 1, sample.n - 1, headSize - 1],
    ]) {
      let want = bias[h * headSize + d];
      for (let c = 0; c < C; c++) want += sample.x.data[i * C + c] * key[(h * headSize + d) * C + c];
      expect(sample.keys.data[(h * sample.n + i) * headSize + d]).toBeCloseTo(want, 4);
    }
  });

  it('may be read again, and reads int8 models', async () => {
    const small = await applyRecipe(madeEncoder(), [{ step: 'quantize', bits: 8 }]);
    const calibration = await calibrationFrom(small, TEXTS);
    const once = await all(calibration.layer(0));
    expect(await all(calibration.layer(0))).toEqual(once);
    const [float] = await all((await calibrationFrom(madeEncoder(), TEXTS)).layer(0));
    const apart = once[0].x.data.map((v, i) => Math.abs(v - float.x.data[i]));
    expect(Math.max(...apart)).toBeLessThan(0.1);
  });

  it('chooses texts by seed, cuts them, and says how much text that is', async () => {
    const many = [...Array(20).keys()].map((i) => `${'a '.repeat(i)}fox`);
    const read = async (seed: number) => {
      const calibration = await calibrationFrom(madeEncoder(), many, { maxTexts: 4, maxTokens: 8, seed });
      const samples = await all(calibration.layer(0));
      const lengths = samples.map(({ n }) => n);
      expect(calibration.sequences).toBe(4);
      expect(calibration.tokens).toBe(lengths.reduce((a, b) => a + b));
      expect(Math.max(...lengths)).toBeLessThanOrEqual(8);
      return samples;
    };
    const once = await read(3);
    expect(await read(3)).toEqual(once);
    const others = await Promise.all([4, 5, 6].map(read));
    expect(others).not.toEqual([once, once, once]);
    // In their own order: what is longer comes later.
    const lengths = once.map(({ n }) => n);
    expect(lengths).toEqual(lengths.toSorted((a, b) => a - b));
  });

  it('runs a layer once while its samples have room, and again without', async () => {
    const runs = async (cacheBytes: number) => {
      let count = 0;
      const onProgress = () => {
        count++;
      };
      const calibration = await calibrationFrom(madeEncoder(), TEXTS, { cacheBytes, onProgress });
      const first = await all(calibration.layer(0));
      await all(calibration.layer(0));
      expect(await all(calibration.layer(1))).toHaveLength(3);
      expect(await all(calibration.layer(0))).toEqual(first);
      return count;
    };
    expect(await runs(2 ** 20)).toBe(3 * 3);
    expect(await runs(5000)).toBe(4 * 3);
  });

  it('looks into layers of other mechanisms that project queries, keys and values', async () => {
    const model = await applyRecipe(madeEncoder(), [
      { step: 'attention', kind: 'local', left: 1, right: 1, layers: [0] },
    ]);
    const [local] = await all((await calibrationFrom(model, TEXTS)).layer(0));
    const [dense] = await all((await calibrationFrom(madeEncoder(), TEXTS)).layer(0));
    expect(local).toEqual(dense);
    const [after] = await all((await calibrationFrom(model, TEXTS)).layer(1));
    const [before] = await all((await calibrationFrom(madeEncoder(), TEXTS)).layer(1));
    expect(after.x).not.toEqual(before.x);
  });

  it('stops on abort', async () => {
    const controller = new AbortController();
    const calibration = await calibrationFrom(madeEncoder(), TEXTS, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('stopped')),
    });
    await expect(all(calibration.layer(0))).rejects.toThrow('stopped');
  });

  it('asks for text', async () => {
    await expect(calibrationFrom(madeEncoder(), [])).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});
