import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { openModel, writeArtifact } from '../../format/index.ts';
import type { Model } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { textContext } from '../../optimize/text-context.ts';
import { loadModel } from '../../runtime/index.ts';
import { decode, encode, formatSpec } from '../../tensor/codec.ts';
import { overlay } from '../overlay.ts';
import { applyRecipe } from '../recipe.ts';
import type { RecipeStep } from '../step.ts';

const TEXTS = [
  'a small model runs in the page',
  'every word known to it',
  'quick brown fox in the page and node alike',
  'the fox runs',
  'node and page, quick and small',
  'known word in every model',
  'brown brown fox, a quick model',
];
const context = textContext(TEXTS);
const quantized = (options: object, model = madeEncoder(), more: RecipeStep[] = []) =>
  applyRecipe(model, [{ step: 'quantize', ...options }, ...more], context);
const { query, key, value, output, up, down } = names.layer(0);

function preNorm(): Model {
  const model = madeEncoder();
  const layers = model.config.layers.map((layer) => ({ ...layer, activation: 'relu' as const }));
  return { ...model, config: { ...model.config, norm: 'pre', layers } };
}

async function embed(model: Model): Promise<Float32Array[]> {
  const loaded = await loadModel(model, { threads: 1 });
  const rows = (await loaded.embed(TEXTS)).map((row) => row.slice());
  loaded.dispose();
  return rows;
}

/** One less the mean cosine of the embeddings of two models. */
async function apart(a: Model, b: Model): Promise<number> {
  const [x, y] = await Promise.all([embed(a), embed(b)]);
  const cosine = (p: Float32Array, q: Float32Array) => p.reduce((sum, v, i) => sum + v * q[i], 0);
  return 1 - x.reduce((sum, row, i) => sum + cosine(row, y[i]), 0) / x.length;
}

const specsOf = (model: Model, of: (name: string) => boolean = () => true) =>
  Object.fromEntries(
    [...model.weights.specs].filter(([name]) => of(name)).map(([n, s]) => [n, formatSpec(s)]),
  );

describe('quantize', () => {
  it.each([
    [{ bits: 8 }, 0.002],
    [{ bits: 8, method: 'smoothquant' }, 0.002],
    [{ bits: 8, method: 'smoothquant', smoothing: 0.5 }, 0.002],
    [{ bits: 8, method: 'gptq', smoothing: 'search', biasCorrection: true }, 0.002],
    [{ bits: 8, activations: 'static' }, 0.004],
    [{ bits: 8, activations: 'static', observer: 'percentile', method: 'smoothquant' }, 0.004],
    [{ bits: 4 }, 0.02],
    [{ bits: 4, method: 'gptq', embeddings: 'int4-g32' }, 0.02],
    [{ bits: 4, method: 'gptq', order: 'activation', scheme: 'affine', biasCorrection: true }, 0.02],
    [{ bits: 4, method: 'awq', groupSize: 'row' }, 0.03],
    [{ bits: 2, method: 'gptq', scheme: 'affine' }, 0.2],
    [{ bits: 'ternary', method: 'gptq' }, 0.5],
    [{ bits: 'ternary', ternary: 'absmean' }, 0.9],
    [{ bits: 'binary', biasCorrection: true }, 0.9],
    [{ bits: 16 }, 1e-5],
  ])('%j gives a model that runs, near the float one', async (options, limit) => {
    const model = madeEncoder();
    const before = specsOf(model);
    const small = await quantized(options, model);
    expect(await apart(small, model)).toBeLessThan(limit);
    expect(specsOf(model)).toEqual(before);
    const pre = preNorm();
    expect(await apart(await quantized(options, pre), pre)).toBeLessThan(limit);
  });

  it('gains from looking at text', async () => {
    const model = madeEncoder();
    const loss = async (options: object) =>
      apart(await quantized({ embeddings: false, ...options }, model), model);
    const nearest = await loss({ bits: 4 });
    expect(await loss({ bits: 4, method: 'gptq' })).toBeLessThan(nearest / 1.25);
    expect(await loss({ bits: 'ternary', method: 'gptq' })).toBeLessThan(await loss({ bits: 'ternary' }));
  });

  it('scales inputs where they are uneven, in the norm or in the product', async () => {
    for (const model of [madeEncoder(), preNorm()]) {
      // One channel of every norm far larger than the others, as models of real text have them.
      const uneven = new Map(
        await Promise.all(
          [0, 1].map(async (i) => {
            const name = `${names.layer(i).attentionNorm}.scale`;
            const scale = decode(await model.weights.read(name)).slice();
            scale[3] *= 40;
            return [name, encode('float32', [32], scale)] as const;
          }),
        ),
      );
      const hard = { ...model, weights: overlay(model.weights, uneven) };
      const options = { bits: 8, embeddings: false };
      const [plain, smooth] = [
        await quantized(options, hard),
        await quantized({ ...options, method: 'smoothquant' }, hard),
      ];
      expect(await apart(smooth, hard)).toBeLessThan((await apart(plain, hard)) / 1.5);
      const made = [...smooth.weights.specs.keys()].filter((name) => name.endsWith('.inputScale'));
      if (model.config.norm === 'pre') expect(made).toEqual([]);
      else expect(made).toContain(`${up}.inputScale`);
    }
  });

  it('keeps to layers, roles and widths by hand', async () => {
    const some = await quantized({
      bits: 4,
      layers: [0],
      roles: ['up', 'down', 'query', 'key', 'value'],
      mixed: {
        [value]: 'int8',
        [down]: 'float32',
        'layers.1.feedForward.up': 'int2-g32-affine',
        type: 'float16',
      },
    });
    const changed = specsOf(some, (name) => some.weights.specs.get(name)!.codec !== 'float32');
    expect(changed).toEqual({
      [names.tokenType]: 'float16 [2,32]',
      [`${query}.weight`]: 'int4 [32,32] in groups of 32',
      [`${key}.weight`]: 'int4 [32,32] in groups of 32',
      [`${value}.weight`]: 'int8 [32,32]',
      [`${up}.weight`]: 'int4 [64,32] in groups of 32',
      'layers.1.feedForward.up.weight': 'int2 affine [64,32] in groups of 32',
    });
  });

  it('changes what is named alone where no bits are given', async () => {
    const tables = await quantized({ embeddings: 'int4-g32' });
    expect(specsOf(tables, (name) => tables.weights.specs.get(name)!.codec !== 'float32')).toEqual({
      [names.word]: expect.stringMatching(/^int4 .* in groups of 32$/),
      [names.position]: 'int8 [64,32]',
      [names.tokenType]: 'int8 [2,32]',
    });
    const one = await quantized({ mixed: { [output]: 'int4-g32' }, embeddings: false, method: 'gptq' });
    expect([...one.weights.specs.values()].filter(({ codec }) => codec !== 'float32')).toHaveLength(1);
  });

  it.each([
    ['roles that no weight has', { bits: 8, roles: ['residual'] }, 'QUANTIZE_ROLE'],
    ['widths for nothing', { bits: 8, mixed: { '/quary/': 'int8' } }, 'MIXED_NOTHING'],
    ['groups that do not divide', { bits: 4, groupSize: 64 }, 'GROUP_SIZE'],
    ['zero points of int8', { bits: 8, scheme: 'affine' }, 'CODEC_SPEC'],
    ['floats beside integers', { bits: 8, mixed: { [key]: 'float32' } }, 'QUANTIZE_STACK'],
    [
      'signs of other weights',
      { bits: 'binary', mixed: { query: 'int8' }, activations: 'binary' },
      'QUANTIZE_INPUT',
    ],
    ['an observer of nothing', { bits: 8, observer: 'mse' }, 'RECIPE_INVALID'],
    ['smoothing by AWQ', { bits: 8, method: 'awq', smoothing: 0.5 }, 'RECIPE_INVALID'],
    ['an order of rounding to nearest', { bits: 8, order: 'columns' }, 'RECIPE_INVALID'],
    ['signs of 8 bits', { bits: 8, activations: 'binary' }, 'RECIPE_INVALID'],
    ['layers that the model lacks', { bits: 8, layers: [2] }, 'LAYER_MISSING'],
  ])('refuses %s', async (_what, options, code) => {
    await expect(quantized(options)).rejects.toMatchObject({ code });
  });

  it('asks for text where a method needs it', async () => {
    for (const options of [{ method: 'gptq' }, { activations: 'static' }, { biasCorrection: true }])
      await expect(
        applyRecipe(madeEncoder(), [{ step: 'quantize', bits: 8, ...options }]),
      ).rejects.toMatchObject({ code: 'CALIBRATION_MISSING' });
  });

  it('leaves integers as they are, and says so where they were meant', async () => {
    const first = await quantized({ bits: 8, roles: ['query', 'key', 'value'], method: 'smoothquant' });
    const then = await quantized({ bits: 4, method: 'gptq', smoothing: 'search' }, first);
    for (const name of [query, key, value].map((n) => `${n}.weight`)) {
      expect(then.weights.specs.get(name)!.codec).toBe('int8');
      expect(await then.weights.read(name)).toEqual(await first.weights.read(name));
    }
    expect(await apart(then, madeEncoder())).toBeLessThan(0.02);
    await expect(quantized({ mixed: { query: 'int4' } }, first)).rejects.toMatchObject({
      code: 'QUANTIZE_TWICE',
    });
    await expect(quantized({ bits: 2 }, then)).rejects.toMatchObject({ code: 'QUANTIZE_NOTHING' });
  });

  it('refuses weights that are not finite, and bears weights and inputs of zero', async () => {
    const model = madeEncoder();
    const name = `${up}.weight`;
    const with_ = (values: Float32Array): Model => ({
      ...model,
      weights: overlay(model.weights, new Map([[name, encode('float32', [64, 32], values)]])),
    });
    const broken = decode(await model.weights.read(name)).slice();
    broken[40] = Number.POSITIVE_INFINITY;
    const plain = await applyRecipe(with_(broken), [{ step: 'quantize', bits: 4 }]);
    await expect(plain.weights.read(name)).rejects.toMatchObject({ code: 'WEIGHT_NOT_FINITE' });
    // Rows of zeros give inputs of `down` that are always 0.
    const zeros = decode(await model.weights.read(name)).slice();
    zeros.fill(0, 0, 10 * 32);
    const bias = encode('float32', [64], new Float32Array(64));
    const dead = { ...model, weights: overlay(with_(zeros).weights, new Map([[`${up}.bias`, bias]])) };
    for (const method of ['smoothquant', 'gptq', 'awq'])
      expect(await apart(await quantized({ bits: 4, method }, dead), dead)).toBeLessThan(0.03);
  });

  it('goes before and after attention steps', async () => {
    const options = { bits: 8, method: 'smoothquant', activations: 'static' };
    const step = { step: 'quantize', ...options };
    for (const attention of [
      { step: 'attention', kind: 'local', left: 1, right: 1 },
      { step: 'attention', kind: 'grouped', groups: 2 },
      { step: 'attention', kind: 'linformer', rank: 8 },
    ]) {
      const float = await applyRecipe(madeEncoder(), [attention], context);
      const last = await applyRecipe(madeEncoder(), [attention, step], context);
      const first = await applyRecipe(madeEncoder(), [step, attention], context);
      expect(await apart(last, float)).toBeLessThan(0.004);
      // Its ranges are those of what the dense model gave.
      expect(await apart(first, float)).toBeLessThan(0.02);
      expect(first.weights.specs.get(`${key}.weight`)!.codec).toBe('int8');
    }
  });

  it('scales and rounds weights that layers share for all that they read', async () => {
    for (const model of [madeEncoder(), preNorm()]) {
      const shared = await applyRecipe(model, [{ step: 'share', kind: 'layers', every: 2 }]);
      for (const options of [
        { bits: 8, method: 'smoothquant', smoothing: 0.5, activations: 'static' },
        { bits: 8, method: 'gptq', smoothing: 'search', biasCorrection: true },
      ])
        expect(await apart(await quantized(options, shared), shared)).toBeLessThan(0.004);
    }
  });

  it('takes companions out with a product that attention does without', async () => {
    const options = { bits: 8, method: 'smoothquant', smoothing: 0.5, activations: 'static' };
    const random = { step: 'attention', kind: 'synthesizer-random' };
    const model = await quantized(options, madeEncoder(), [random]);
    const left = [...model.weights.specs.keys()].filter((name) => name.startsWith(`${query}.`));
    expect(left).toEqual([]);
    expect(await embed(model)).toHaveLength(TEXTS.length);
  });

  it('survives the artifact with its recipe', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'attenuate-quantize-'));
    try {
      const options = {
        bits: 4,
        method: 'gptq',
        smoothing: 0.5,
        activations: 'static',
        embeddings: 'int4-g32',
      };
      const made = await quantized(options);
      await writeArtifact(made, join(folder, 'model.safetensors'));
      const read = await openModel(join(folder, 'model.safetensors'));
      expect(specsOf(read)).toEqual(specsOf(made));
      expect(read.recipe).toEqual(made.recipe);
      expect(await embed(read)).toEqual(await embed(made));
      await read.weights.close?.();
      const again = await applyRecipe(madeEncoder(), JSON.parse(JSON.stringify(made.recipe)), context);
      expect(await embed(again)).toEqual(await embed(made));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('says how far it is, and stops when told to', async () => {
    const seen: string[] = [];
    const onProgress = (what: string, fraction: number) => {
      seen.push(what.split(' ')[0]);
      expect(fraction).toBeGreaterThanOrEqual(0);
      expect(fraction).toBeLessThanOrEqual(1);
    };
    const step = { step: 'quantize', bits: 8, method: 'gptq', smoothing: 'search' };
    await applyRecipe(madeEncoder(), [step], textContext(TEXTS, { onProgress }));
    expect([...new Set(seen)]).toEqual(['calibrate', 'scale', 'quantize']);
    const controller = new AbortController();
    const stopped = applyRecipe(
      madeEncoder(),
      [step],
      textContext(TEXTS, {
        signal: controller.signal,
        onProgress: (what) => what.startsWith('quantize') && controller.abort(new Error('stopped')),
      }),
    );
    await expect(stopped).rejects.toThrow('stopped');
  });
});
