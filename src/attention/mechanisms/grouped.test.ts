import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { runReference } from '../../backend/reference/interpreter.ts';
import { applyRecipe } from '../../compress/index.ts';
import type { RecipeStep } from '../../compress/step.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { loadModel } from '../../runtime/index.ts';
import { byteSize, decode, encode, type Weight } from '../../tensor/codec.ts';
import { meanHeads } from '../initialise/mean-heads.ts';
import grouped from './grouped.ts';

const TEXTS = [
  'a small model',
  'runs in the page and node alike',
  '',
  'every word known to it, quick brown fox',
];
// The made encoder has 4 heads of 8 columns.
const [HEADS, SIZE] = [4, 8];
const group = (groups: number, more = {}): RecipeStep => ({
  step: 'attention',
  kind: 'grouped',
  groups,
  ...more,
});

const bytesOf = ({ weights }: Model): number =>
  [...weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);

async function weightsOf({ weights }: Model): Promise<Map<string, Weight>> {
  const out = new Map<string, Weight>();
  for (const name of weights.specs.keys()) out.set(name, await weights.read(name));
  return out;
}

async function embed(model: Model): Promise<Float32Array[]> {
  const loaded = await loadModel(model);
  try {
    return await loaded.embed(TEXTS);
  } finally {
    loaded.dispose();
  }
}

const far = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a).toHaveLength(b.length);
  return Array.from(a).reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);
};

/** Largest difference between the engine and the float64 reference over some texts. */
async function farFromReference(model: Model): Promise<number> {
  const program = await traceEncoder(model.config, model.weights.specs);
  const weights = await weightsOf(model);
  const loaded = await loadModel(model);
  try {
    const levels = loaded.info.dot === 'u7' ? 128 : 256;
    const got = await loaded.embed(TEXTS);
    let worst = 0;
    for (const [i, text] of TEXTS.entries()) {
      const ids = await loaded.tokenize(text);
      const N = ids.length;
      const inputs = { ids, lengths: [N], types: new Array(N).fill(0) };
      const [want] = runReference(program, weights, inputs, { B: 1, N }, levels);
      expect([...got[i]].every(Number.isFinite)).toBe(true);
      worst = Math.max(worst, far(got[i], want));
    }
    return worst;
  } finally {
    loaded.dispose();
  }
}

/** The same model with keys and values of a group written out for each of its heads, for dense attention. */
async function repeated(model: Model, groups: number): Promise<Model> {
  const weights = await weightsOf(model);
  for (const [name, weight] of weights) {
    if (!/attention\.(key|value)\.(weight|bias)$/.test(name)) continue;
    const data = decode(weight);
    const perHead = data.length / groups;
    const out = new Float32Array(perHead * HEADS);
    for (let h = 0; h < HEADS; h++)
      out.set(
        data.subarray(
          Math.floor((h * groups) / HEADS) * perHead,
          (Math.floor((h * groups) / HEADS) + 1) * perHead,
        ),
        h * perHead,
      );
    weights.set(name, encode('float32', [HEADS * SIZE, ...weight.shape.slice(1)], out));
  }
  return {
    ...model,
    config: {
      ...model.config,
      layers: model.config.layers.map((layer) => ({ ...layer, attention: { kind: 'dense' } })),
    },
    weights: {
      specs: new Map([...weights].map(([name, { codec, shape }]) => [name, { codec, shape }])),
      read: async (name) => weights.get(name)!,
    },
  };
}

describe('grouped-query attention', () => {
  it('is the dense model where there are as many groups as heads', async () => {
    const model = await applyRecipe(madeEncoder(), [group(HEADS)]);
    expect(await embed(model)).toEqual(await embed(madeEncoder()));
  });

  it.each([1, 2])('with %d groups is dense attention over repeated keys and values', async (groups) => {
    const model = await applyRecipe(madeEncoder(), [group(groups)]);
    const [got, want] = [await embed(model), await embed(await repeated(model, groups))];
    for (const [i, y] of got.entries()) expect(far(y, want[i])).toBeLessThan(1e-6);
    // And not what the model gave before.
    const before = await embed(madeEncoder());
    expect(far(got[0], before[0])).toBeGreaterThan(1e-4);
  });

  it.each([
    [group(1)],
    [group(2)],
    [group(2, { position: 'alibi', softcap: 3 })],
    [group(1, { position: 'rotary' })],
    [group(2, { position: 'relative', relativeDistance: 3 })],
    [group(2), { step: 'quantize', bits: 8 }],
    [{ step: 'quantize', bits: 8 }, group(2)],
    [{ step: 'attention', kind: 'dense', position: 'alibi' }],
    [{ step: 'attention', kind: 'dense', position: 'relative', softcap: 50 }],
    [{ step: 'attention', kind: 'dense', position: 'rotary', rotaryLayout: 'pairs' }],
    [{ step: 'attention', kind: 'local', left: 2, right: 3, position: 'rotary' }],
    [{ step: 'attention', kind: 'local', left: 2, right: 3, position: 'alibi' }],
  ] as RecipeStep[][])('runs from text to embedding: %j %j', async (...recipe) => {
    const steps = recipe.filter((step) => typeof step === 'object');
    const model = await applyRecipe(madeEncoder(), steps);
    // Where activations are rounded, a last bit may fall the other way.
    const tolerance = steps.some(({ step }) => step === 'quantize') ? 2e-3 : 1e-4;
    expect(await farFromReference(model)).toBeLessThan(tolerance);
  });

  it('takes less: bytes of weights, and of the engine', async () => {
    const [whole, part] = [madeEncoder(), await applyRecipe(madeEncoder(), [group(1)])];
    const C = HEADS * SIZE;
    // Two matrices and biases in each of two layers lose three of four heads.
    expect(bytesOf(whole) - bytesOf(part)).toBe(2 * 2 * (C + 1) * (C - SIZE) * 4);
    expect(part.weights.specs.get('layers.0.attention.key.weight')!.shape).toEqual([SIZE, C]);
    expect(part.weights.specs.get('layers.0.attention.query.weight')!.shape).toEqual([C, C]);
    const program = await traceEncoder(part.config, part.weights.specs);
    const product = program.nodes.find(({ kind }) => kind === 'linear')!;
    expect(product.outputs[0].shape[0].terms.get('')).toBe(HEADS + 2);
  });

  it('starts at the means of the heads of a group', () => {
    const layer = { index: 0, heads: 4, headSize: 2 };
    const tensor = { shape: [8, 1], data: Float32Array.of(1, 2, 3, 4, 10, 20, 30, 40) };
    expect(meanHeads(tensor, layer, 2, 'w')).toEqual({
      shape: [4, 1],
      data: Float32Array.of(2, 3, 20, 30),
    });
    expect(meanHeads(tensor, layer, 4, 'w')).toEqual(tensor);
    const bias = { shape: [8], data: tensor.data };
    expect(meanHeads(bias, layer, 1, 'b')).toEqual({ shape: [2], data: Float32Array.of(11, 16.5) });
  });

  it('refuses groups that do not divide the heads, and heads grouped before', async () => {
    const layer = { index: 0, inputSize: 32, heads: 4, headSize: 8, maxLength: 64 };
    expect(grouped.refuse!(layer, { groups: 3 } as never)).toMatch(/divisor of 4/);
    expect(grouped.refuse!(layer, { groups: 8 } as never)).toMatch(/divisor of 4/);
    expect(grouped.refuse!(layer, { groups: 2, position: 'none' } as never)).toBeNull();
    await expect(applyRecipe(madeEncoder(), [group(3)])).rejects.toMatchObject({ code: 'ATTENTION_REFUSED' });
    await expect(applyRecipe(madeEncoder(), [group(2), group(1)])).rejects.toMatchObject({
      code: 'ATTENTION_WEIGHT',
    });
    await expect(applyRecipe(madeEncoder(), [group(0)])).rejects.toThrow();
  });
});
