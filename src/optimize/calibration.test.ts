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
    const { ids, types } = createTokenizer(model.tokenizer!, 64).encode(TEXTS[0]);
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
    const calibration = await calibrationFrom(small, TEXTS, { maxTexts: 2 });
    const once = await all(calibration.layer(0));
    expect(once).toHaveLength(2);
    expect(await all(calibration.layer(0))).toEqual(once);
    const [float] = await all((await calibrationFrom(madeEncoder(), TEXTS)).layer(0));
    const apart = once[0].x.data.map((v, i) => Math.abs(v - float.x.data[i]));
    expect(Math.max(...apart)).toBeLessThan(0.1);
  });

  it('asks for text', async () => {
    await expect(calibrationFrom(madeEncoder(), [])).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});
