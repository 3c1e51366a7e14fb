import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { applyRecipe } from '../../compress/index.ts';
import type { Model } from '../../model/config.ts';
import { isMatrix, names } from '../../model/names.ts';
import { loadModel } from '../../runtime/index.ts';
import { decode, encode } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { sequencesOf } from '../sequences.ts';
import { Reference } from './distance.ts';
import { Replay } from './replay.ts';

const TEXTS = [
  'a small model runs',
  'every word known to it',
  'quick brown fox in the page and node alike',
  'fox',
  'the page runs in node',
];
const OPTIONS = { maxTexts: 64, maxTokens: 64, seed: 1 };

/** Every value of some weights moved a little. */
async function moved(model: Model, weights: readonly string[]): Promise<Map<string, Float32Array>> {
  const out = new Map<string, Float32Array>();
  for (const [i, name] of weights.entries()) {
    const values = decode(await model.weights.read(name));
    const noise = new Random(i + 1).gaussians(values.length, 0.05);
    out.set(
      name,
      values.map((v, at) => v + noise[at]),
    );
  }
  return out;
}

/** The model with those values for good, loaded as any other. */
async function embedded(model: Model, changed: ReadonlyMap<string, Float32Array>): Promise<Float32Array[]> {
  const loaded = await loadModel({
    ...model,
    weights: {
      specs: model.weights.specs,
      read: async (name) => {
        const weight = await model.weights.read(name);
        return changed.has(name) ? encode('float32', weight.shape, changed.get(name)!) : weight;
      },
    },
  });
  const rows = await loaded.embed(TEXTS);
  loaded.dispose();
  return rows;
}

const open = async (model: Model, cacheBytes?: number): Promise<Replay> =>
  Replay.open(model, await sequencesOf(model, TEXTS, OPTIONS), { cacheBytes });

describe('Replay', () => {
  it.each([undefined, 2500, 0])(
    'gives what a model with those weights gives, from any stage, with %s bytes kept',
    async (cacheBytes) => {
      const model = madeEncoder();
      const replay = await open(model, cacheBytes);
      expect(replay.baseline).toEqual(await embedded(model, new Map()));
      const { down, value, query } = names.layer(1);
      for (const weights of [
        [names.word],
        [names.tokenType, `${down}.weight`],
        [`${value}.weight`, `${query}.weight`],
        [`${names.layer(0).up}.weight`],
      ]) {
        const changed = await moved(model, weights);
        const rows = await replay.run(changed);
        expect(rows).toEqual(await embedded(model, changed));
        expect(rows).not.toEqual(replay.baseline);
        expect(await replay.run(new Map())).toEqual(replay.baseline);
      }
      replay.dispose();
    },
  );

  it('looks at a quantised model as the floats that it holds', async () => {
    const small = await applyRecipe(madeEncoder(), [{ step: 'quantize', bits: 8 }]);
    const replay = await open(small);
    const float = await open(madeEncoder());
    const { output } = new Reference(float.baseline).distance(replay.baseline);
    expect(output).toBeGreaterThan(0);
    expect(output).toBeLessThan(1e-3);
  });

  it('runs every kind of head', async () => {
    for (const head of [
      { kind: 'classification', labels: ['a', 'b', 'c'], poolerActivation: 'tanh' },
      { kind: 'maskedToken', activation: 'gelu' },
    ] as const) {
      const model = madeEncoder(head);
      const replay = await open(model);
      expect(replay.baseline).toHaveLength(TEXTS.length);
      for (const row of replay.baseline) expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 4);
      const matrices = [...model.weights.specs.keys()].filter(isMatrix);
      expect(await replay.run(await moved(model, matrices.slice(-1)))).not.toEqual(replay.baseline);
      replay.dispose();
    }
  });

  it('names a weight that is not there, and stops when told to', async () => {
    const replay = await open(madeEncoder());
    await expect(replay.run(new Map([['layers.9.x', new Float32Array(1)]]))).rejects.toMatchObject({
      code: 'WEIGHT_MISSING',
    });
    const model = madeEncoder();
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(Replay.open(model, await sequencesOf(model, TEXTS, OPTIONS), { signal })).rejects.toThrow(
      'stopped',
    );
  });
});

describe('the distance of outputs', () => {
  const rows = [
    [1, 0],
    [0, 1],
    [0.6, 0.8],
  ];

  it('is 0 for equal ones', () => {
    expect(new Reference(rows).distance(rows)).toEqual({ output: 0, similarity: 0 });
  });

  it('is the squared error as a share of the squares, and of the cosines as a share of their variance', () => {
    const turned = rows.map(([x, y]) => [-y, x]);
    const { output, similarity } = new Reference(rows).distance(turned);
    expect(output).toBeCloseTo(2, 12);
    expect(similarity).toBeCloseTo(0, 12);
    const changed = [
      [1, 0],
      [0, 1],
      [1, 0],
    ];
    const cosines = [0, 0.6, 0.8];
    const mean = 1.4 / 3;
    const variance = cosines.reduce((sum, c) => sum + (c - mean) ** 2 / 3, 0);
    expect(new Reference(rows).distance(changed).similarity).toBeCloseTo(
      ((1 - 0.6) ** 2 + (0 - 0.8) ** 2) / 3 / variance,
      9,
    );
  });

  it('knows of no similarities between fewer than three texts', () => {
    expect(new Reference(rows.slice(0, 2)).distance(rows.slice(0, 2)).similarity).toBeNull();
  });
});
