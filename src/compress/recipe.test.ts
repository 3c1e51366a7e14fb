import { describe, expect, it } from 'vitest';
import type { Model } from '../model/config.ts';
import { decode, encode, type Weight } from '../tensor/codec.ts';
import { applyRecipe, parseRecipe } from './recipe.ts';

const layer = {
  inputSize: 4,
  outputSize: 4,
  heads: 2,
  headSize: 2,
  feedForwardSize: 8,
  activation: 'gelu',
  attention: { kind: 'dense' },
} as const;

function makeModel(reads: string[] = []): Model {
  const shapes: Record<string, number[]> = {
    'embedding.word': [6, 4],
    'embedding.position': [8, 4],
    'layers.0.attention.query.weight': [4, 4],
    'layers.0.attention.query.bias': [4],
    'layers.1.attention.query.weight': [4, 4],
    'head.dense.weight': [4, 4],
  };
  const weights = new Map<string, Weight>(
    Object.entries(shapes).map(([name, shape], n) => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) =>
        Math.sin(i * 7 + n),
      );
      return [name, encode('float32', shape, values)];
    }),
  );
  return {
    config: { layers: [layer, layer] } as unknown as Model['config'],
    tokenizer: null,
    recipe: [],
    provenance: {},
    weights: {
      specs: weights,
      read: async (name) => {
        reads.push(name);
        return weights.get(name)!;
      },
    },
  };
}

const INT8 = { step: 'quantize', bits: 8 };
const LOCAL = {
  step: 'attention',
  kind: 'local',
  left: 2,
  right: 1,
  layers: { every: 2, offset: 1, except: false },
};

const snapshot = async (model: Model) => ({
  config: model.config,
  weights: await Promise.all(
    [...model.weights.specs].map(async ([name, spec]) => [name, spec.codec, await model.weights.read(name)]),
  ),
});

describe('applyRecipe', () => {
  it('quantises matrices only, lazily, within half a step of each row', async () => {
    const reads: string[] = [];
    const model = makeModel(reads);
    const small = await applyRecipe(model, [INT8]);
    expect(reads).toEqual([]);
    expect([...small.weights.specs].map(([name, { codec }]) => [name, codec])).toEqual([
      ['embedding.word', 'int8'],
      ['embedding.position', 'float32'],
      ['layers.0.attention.query.weight', 'int8'],
      ['layers.0.attention.query.bias', 'float32'],
      ['layers.1.attention.query.weight', 'int8'],
      ['head.dense.weight', 'int8'],
    ]);
    const before = decode(await model.weights.read('head.dense.weight'));
    const after = decode(await small.weights.read('head.dense.weight'));
    for (let row = 0; row < 4; row++) {
      const largest = Math.max(...before.slice(row * 4, row * 4 + 4).map(Math.abs));
      for (let i = row * 4; i < row * 4 + 4; i++)
        expect(Math.abs(after[i] - before[i])).toBeLessThanOrEqual(largest / 254 + 1e-6);
    }
  });

  it('leaves the given model as it was', async () => {
    const model = makeModel();
    const before = structuredClone(await snapshot(model));
    const small = await applyRecipe(model, [INT8, LOCAL]);
    await snapshot(small);
    expect(await snapshot(model)).toEqual(before);
    expect(model.recipe).toEqual([]);
  });

  it('gives the same model in either order, and through JSON', async () => {
    const a = await applyRecipe(makeModel(), [INT8, LOCAL]);
    const b = await applyRecipe(makeModel(), [LOCAL, INT8]);
    expect(await snapshot(a)).toEqual(await snapshot(b));
    expect(a.config.layers.map((l) => l.attention.kind)).toEqual(['dense', 'local']);
    const again = await applyRecipe(makeModel(), JSON.parse(JSON.stringify(a.recipe)));
    expect(again.recipe).toEqual(a.recipe);
    expect(await snapshot(again)).toEqual(await snapshot(a));
  });

  it('records steps with their defaults after those already there', async () => {
    const once = await applyRecipe(makeModel(), [LOCAL]);
    const twice = await applyRecipe(once, [INT8]);
    expect(twice.recipe).toEqual([
      expect.objectContaining({ ...LOCAL, precision: 'float32', position: 'none', softcap: 0 }),
      {
        ...{ step: 'quantize', bits: 8, method: 'rtn', activations: 'dynamic', biasCorrection: false },
        ...{ embeddings: true, head: true, layers: 'all' },
      },
    ]);
  });

  it('takes options for embeddings, head and layers', async () => {
    const some = await applyRecipe(makeModel(), [{ ...INT8, embeddings: false, head: false, layers: [1] }]);
    const int8 = [...some.weights.specs].filter(([, s]) => s.codec === 'int8').map(([name]) => name);
    expect(int8).toEqual(['layers.1.attention.query.weight']);
    const rest = await applyRecipe(some, [INT8]);
    expect([...rest.weights.specs.values()].filter((s) => s.codec === 'int8')).toHaveLength(4);
  });

  it('refuses to quantise twice', async () => {
    await expect(applyRecipe(makeModel(), [INT8, INT8])).rejects.toMatchObject({ code: 'QUANTIZE_NOTHING' });
  });

  it('refuses layers that the model lacks', async () => {
    await expect(applyRecipe(makeModel(), [{ ...LOCAL, layers: [2] }])).rejects.toMatchObject({
      code: 'LAYER_MISSING',
    });
  });
});

describe('parseRecipe', () => {
  it.each([
    ['a list', { step: 'quantize' }, /a list of steps/],
    ['a name', [{}], /"step"/],
    ['known steps', [{ step: 'shrink' }], /one of quantize, attention/],
    ['known variants', [{ step: 'attention', kind: 'magic' }], /"kind":"local"/],
    ['known widths', [{ step: 'quantize', bits: 3 }], /bits/],
    ['a width at all', [{ step: 'quantize' }], /one of 16, 8, 4, 2, ternary, binary/],
    ['known options', [{ ...INT8, speed: 9 }], /speed/],
    ['sound options', [{ ...LOCAL, left: -1 }], /left/],
  ])('asks for %s', (_what, recipe, message) => {
    expect(() => parseRecipe(recipe)).toThrow(message);
    expect(() => parseRecipe(recipe)).toThrow(expect.objectContaining({ code: 'RECIPE_INVALID' }));
  });
});
