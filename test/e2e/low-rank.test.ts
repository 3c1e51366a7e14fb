import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runReference } from '../../src/backend/reference/interpreter.ts';
import { applyRecipe } from '../../src/compress/index.ts';
import { openModel, writeArtifact } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { traceEncoder } from '../../src/model/encoder.ts';
import { calibrationFrom } from '../../src/optimize/calibration.ts';
import { loadModel } from '../../src/runtime/index.ts';
import { byteSize, type Weight } from '../../src/tensor/codec.ts';
import { madeEncoder } from '../made-encoder.ts';

const folder = mkdtempSync(join(tmpdir(), 'attenuate-low-rank-'));
afterAll(() => rmSync(folder, { recursive: true }));

const TEXTS = [
  'a small model runs in the page and node alike with every word known to it',
  'quick brown fox',
  'the quick brown fox runs in the page, and a small fox runs with it.',
  'every word is known',
];
const calibrate = (model: Model) => calibrationFrom(model, TEXTS);
const build = (step: object, ...more: { step: string }[]) =>
  applyRecipe(madeEncoder(), [{ step: 'attention', ...step }, ...more], { calibrate });
const bytesOf = ({ weights }: Model): number =>
  [...weights.specs.values()].reduce((sum, spec) => sum + byteSize(spec), 0);

async function referenceOf(model: Model, ids: readonly number[]): Promise<Float64Array> {
  const { specs } = model.weights;
  const weights = new Map<string, Weight>();
  for (const name of specs.keys()) weights.set(name, await model.weights.read(name));
  const program = await traceEncoder(model.config, specs);
  const inputs = { ids, types: ids.map(() => 0), lengths: [ids.length] };
  return runReference(program, weights, inputs, { B: 1, N: ids.length }, 256)[0];
}

const LAYERS = 2;
/** Query and key projections of one layer: 32 × 32 weights and 32 biases each. */
const PROJECTIONS = 2 * (32 * 32 + 32) * 4;
const STEPS: [name: string, step: object, bytesALayer: number][] = [
  ['linformer, one matrix', { kind: 'linformer', rank: 8, share: 'layer' }, 8 * 64 * 4],
  ['linformer, keys and values', { kind: 'linformer', rank: 8 }, 2 * 8 * 64 * 4],
  ['linformer, by head', { kind: 'linformer', rank: 8, share: 'head' }, 8 * 8 * 64 * 4],
  ['synthesizer-random in int8', { kind: 'synthesizer-random' }, 4 * 64 * 64 + 4 * 64 * 4 - PROJECTIONS],
  [
    'synthesizer-random in float16',
    { kind: 'synthesizer-random', codec: 'float16' },
    2 * 4 * 64 * 64 - PROJECTIONS,
  ],
  ['synthesizer-factorised', { kind: 'synthesizer-factorised', rank: 8 }, 2 * 4 * 64 * 8 * 4 - PROJECTIONS],
  // Hidden weights take the place of the queries'.
  ['synthesizer-dense', { kind: 'synthesizer-dense' }, 4 * 64 * 8 * 4 - PROJECTIONS / 2],
];

describe.each(STEPS)('%s', (name, step, bytesALayer) => {
  it('goes through an artifact and embeds as the reference does', async () => {
    const model = await build(step);
    expect(bytesOf(model) - bytesOf(madeEncoder())).toBe(LAYERS * bytesALayer);
    const file = join(folder, `${name.replaceAll(/\W+/g, '-')}.attenuate`);
    await writeArtifact(model, file);
    const opened = await openModel(file);
    expect(bytesOf(opened)).toBe(bytesOf(model));
    const loaded = await loadModel(opened, { threads: 1 });
    try {
      const vectors = await loaded.embed(TEXTS);
      for (const [i, text] of TEXTS.entries()) {
        const want = await referenceOf(opened, await loaded.tokenize(text));
        for (const [d, x] of want.entries()) expect(Math.abs(vectors[i][d] - x)).toBeLessThan(1e-4);
      }
    } finally {
      loaded.dispose();
      await opened.weights.close?.();
    }
  });

  it('refuses a longer text than its weights were made for, and names what can serve', async () => {
    const error = await loadModel(await build(step), { tilePositions: true }).catch((e) => e);
    expect(error).toMatchObject({ code: 'ATTENTION_REFUSED' });
    expect(error.message).toMatch(/at most 64 tokens.*dense or local/);
  });

  it('takes int8 behind it', async () => {
    const plain = await loadModel(await build(step), { threads: 1 });
    const rounded = await loadModel(await build(step, { step: 'quantize', bits: 8 } as never), {
      threads: 1,
    });
    try {
      const [a, b] = [await plain.embed(TEXTS), await rounded.embed(TEXTS)];
      a.forEach((x, i) => {
        expect(x.reduce((sum, v, d) => sum + v * b[i][d], 0)).toBeGreaterThan(0.99);
      });
    } finally {
      plain.dispose();
      rounded.dispose();
    }
  });
});

describe('refusals', () => {
  it('a rank beyond the longest text', async () => {
    await expect(build({ kind: 'linformer', rank: 65 })).rejects.toMatchObject({ code: 'ATTENTION_REFUSED' });
  });

  it('a Synthesizer without text', async () => {
    for (const kind of ['synthesizer-random', 'synthesizer-factorised', 'synthesizer-dense'])
      await expect(applyRecipe(madeEncoder(), [{ step: 'attention', kind }])).rejects.toMatchObject({
        code: 'CALIBRATION_MISSING',
      });
  });

  it('a linformer without text is made of even runs', async () => {
    const model = await applyRecipe(madeEncoder(), [{ step: 'attention', kind: 'linformer', rank: 64 }]);
    const [loaded, dense] = [
      await loadModel(model, { threads: 1 }),
      await loadModel(madeEncoder(), { threads: 1 }),
    ];
    try {
      const [a, b] = [await loaded.embed(TEXTS), await dense.embed(TEXTS)];
      // Rank 64 of at most 64 tokens: exact.
      a.forEach((x, i) => {
        for (const [d, v] of x.entries()) expect(Math.abs(v - b[i][d])).toBeLessThan(1e-5);
      });
    } finally {
      loaded.dispose();
      dense.dispose();
    }
  });
});
