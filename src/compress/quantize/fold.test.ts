import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { runReference } from '../../backend/reference/interpreter.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { names } from '../../model/names.ts';
import { decode, encode, type Weight } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { overlay } from '../overlay.ts';
import { applyRecipe } from '../recipe.ts';
import { foldOf } from './fold.ts';
import { productInputs } from './product-inputs.ts';
import { ScaledWeights } from './scaled-weights.ts';

const at = names.layer(1);

/** The made encoder as Universal Sentence Encoder is: norms in front of blocks, ReLU. */
function preNorm(model = madeEncoder()): Model {
  const layers = model.config.layers.map((layer) => ({ ...layer, activation: 'relu' as const }));
  return { ...model, config: { ...model.config, norm: 'pre', layers } };
}

async function foldsOf(model: Model) {
  const program = await traceEncoder(model.config, model.weights.specs);
  return new Map(productInputs(program).map((input) => [input.products[0], foldOf(program, input)]));
}

async function outputOf({ config, weights }: Model): Promise<Float64Array> {
  const loaded = new Map<string, Weight>();
  for (const name of weights.specs.keys()) loaded.set(name, await weights.read(name));
  const ids = [2, 7, 9, 30, 3];
  const inputs = { ids, types: ids.map(() => 0), lengths: [ids.length], rows: [0] };
  const program = await traceEncoder(config, weights.specs);
  return runReference(program, loaded, inputs, { B: 1, N: ids.length, P: 1 }, 256)[0];
}

describe('foldOf', () => {
  it('finds nowhere to put a scale where a residual sum or GELU stands between', async () => {
    const folds = await foldsOf(madeEncoder());
    for (const name of [at.query, at.up, at.down])
      expect(folds.get(`${name}.weight`)).toEqual({ kind: 'input' });
  });

  it('goes through attention to the values', async () => {
    for (const recipe of [[], [{ step: 'attention', kind: 'local', left: 1, right: 1 }]])
      expect((await foldsOf(await applyRecipe(madeEncoder(), recipe))).get(`${at.output}.weight`)).toEqual({
        kind: 'rows',
        weights: [`${at.value}.weight`, `${at.value}.bias`],
      });
  });

  it('takes the norms of a pre-norm encoder, and ReLU', async () => {
    const folds = await foldsOf(preNorm());
    expect(folds.get(`${at.query}.weight`)).toEqual({
      kind: 'rows',
      weights: [`${at.attentionNorm}.scale`, `${at.attentionNorm}.bias`],
    });
    expect(folds.get(`${at.up}.weight`)).toMatchObject({ kind: 'rows' });
    expect(folds.get(`${at.down}.weight`)).toEqual({
      kind: 'rows',
      weights: [`${at.up}.weight`, `${at.up}.bias`],
    });
  });

  it.each([
    { kind: 'grouped', groups: 2 },
    { kind: 'k-winners', k: 2 },
    { kind: 'strided', window: 2, stride: 2 },
  ])('leaves values alone that attention does more with: $kind', async (attention) => {
    const model = await applyRecipe(madeEncoder(), [{ step: 'attention', ...attention }]);
    expect((await foldsOf(model)).get(`${at.output}.weight`)).toEqual({ kind: 'input' });
  });

  it('leaves values alone that are integers already', async () => {
    const model = await applyRecipe(madeEncoder(), [
      { step: 'quantize', bits: 8, roles: ['query', 'key', 'value'] },
    ]);
    expect((await foldsOf(model)).get(`${at.output}.weight`)).toEqual({ kind: 'input' });
  });
});

describe('ScaledWeights', () => {
  it.each([
    ['post-norm', madeEncoder()],
    ['pre-norm', preNorm()],
    [
      'a classification head',
      preNorm(madeEncoder({ kind: 'classification', labels: ['a', 'b'], poolerActivation: 'tanh' })),
    ],
    ['a masked-token head', preNorm(madeEncoder({ kind: 'maskedToken', activation: 'gelu' }))],
  ])('leave the model what it was: %s', async (_name, model) => {
    const program = await traceEncoder(model.config, model.weights.specs);
    const scaled = new ScaledWeights(model.weights);
    const random = new Random(9);
    let folded = 0;
    for (const input of productInputs(program)) {
      const fold = foldOf(program, input);
      if (fold?.kind !== 'rows' || input.products.includes(names.word)) continue;
      scaled.scale(
        input,
        fold,
        Float32Array.from({ length: input.columns }, () => Math.exp(random.gaussian())),
      );
      folded++;
    }
    expect(folded).toBeGreaterThanOrEqual(2);
    const changed = await scaled.changed(new Set());
    const after = await outputOf({ ...model, weights: overlay(model.weights, changed) });
    const before = await outputOf(model);
    for (const [i, y] of before.entries()) expect(after[i]).toBeCloseTo(y, 5);
    expect(changed.size).toBeGreaterThan(folded);
  });

  it('give the product its scale where nothing in front can take it', async () => {
    const model = madeEncoder();
    const program = await traceEncoder(model.config, model.weights.specs);
    const input = productInputs(program).find(({ products }) => products.includes(`${at.down}.weight`))!;
    const scaled = new ScaledWeights(model.weights);
    const scale = Float32Array.from({ length: 64 }, (_, i) => 1 + i / 8);
    scaled.scale(input, { kind: 'input' }, scale);
    const changed = await scaled.changed(new Set([`${at.down}.weight`]));
    expect([...changed.keys()]).toEqual([`${at.down}.inputScale`]);
    expect(decode(changed.get(`${at.down}.inputScale`)!)[8]).toBeCloseTo(0.5, 6);
    const before = decode(await model.weights.read(`${at.down}.weight`));
    const after = await scaled.values(`${at.down}.weight`);
    expect(after[64 + 8]).toBeCloseTo(before[64 + 8] * 2, 5);
    expect(encode('float32', [64], scale).bytes).toHaveLength(256);
  });
});
