import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { bytesSource, encodeArtifact, openArtifact } from '../../format/index.ts';
import type { Model } from '../../model/config.ts';
import { loadModel } from '../../runtime/index.ts';
import { byteSize, decode } from '../../tensor/codec.ts';
import { applyRecipe } from '../recipe.ts';

const TEXTS = ['a small model runs', 'the quick brown fox'];
const share = { step: 'share', kind: 'layers', every: 2 };
const bytesOf = ({ weights }: Model) =>
  [...weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);

async function embed(model: Model) {
  const loaded = await loadModel(model, { threads: 1 });
  const [plan] = await loaded.plan(16);
  const rows = await loaded.embed(TEXTS);
  loaded.dispose();
  return { rows, weightBytes: plan.weightBytes };
}

describe('sharing layers', () => {
  it('holds one set of weights, in the file and in memory, and survives the artifact', async () => {
    const whole = madeEncoder();
    const made = await applyRecipe(whole, [{ ...share, from: 'first' }]);
    expect([...made.weights.specs.keys()].some((name) => name.startsWith('layers.1.'))).toBe(false);
    const layer = [...whole.weights.specs].filter(([name]) => name.startsWith('layers.1.'));
    const layerBytes = layer.reduce((sum, [, spec]) => sum + byteSize(spec), 0);
    expect(bytesOf(made)).toBe(bytesOf(whole) - layerBytes);
    const { rows, weightBytes } = await embed(made);
    expect(weightBytes).toBeLessThanOrEqual((await embed(whole)).weightBytes - layerBytes);
    const read = await openArtifact(bytesSource(await encodeArtifact(made)));
    expect((await embed(read)).rows).toEqual(rows);
  });

  it('is the model itself where the layers are equal', async () => {
    const whole = madeEncoder();
    const equal: Model = {
      ...whole,
      weights: {
        ...whole.weights,
        read: (name) => whole.weights.read(name.replace('layers.1.', 'layers.0.')),
      },
    };
    const { rows } = await embed(equal);
    for (const from of ['mean', 'first'])
      expect((await embed(await applyRecipe(equal, [{ ...share, from }]))).rows).toEqual(rows);
  });

  it('begins as the mean of what it replaces', async () => {
    const whole = madeEncoder();
    const made = await applyRecipe(whole, [share]);
    const name = 'feedForward.up.weight';
    const floats = async (model: Model, layer: number) =>
      decode(await model.weights.read(`layers.${layer}.${name}`));
    const [a, b] = [await floats(whole, 0), await floats(whole, 1)];
    (await floats(made, 0)).forEach((x, i) => {
      expect(x).toBeCloseTo((a[i] + b[i]) / 2, 6);
    });
  });

  it('goes with other steps', async () => {
    const recipe = [share, { step: 'attention', kind: 'grouped', groups: 2 }, { step: 'quantize', bits: 8 }];
    const made = await applyRecipe(madeEncoder(), recipe);
    expect(made.weights.specs.get('layers.0.attention.key.weight')).toMatchObject({ shape: [16, 32] });
    expect((await embed(made)).rows[0]).toHaveLength(32);
  });

  it('is refused for layers that already share', async () => {
    await expect(applyRecipe(madeEncoder(), [share, share])).rejects.toMatchObject({ code: 'SHARE_LAYERS' });
  });
});

it('a shared projection makes the table narrow', async () => {
  const made = await applyRecipe(madeEncoder(), [{ step: 'share', kind: 'table', size: 8 }]);
  expect(made.config.tableSize).toBe(8);
  expect(bytesOf(made)).toBeLessThan(bytesOf(madeEncoder()));
});
