import { beforeAll, describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { resolveMixed } from '../../compress/quantize/mixed.ts';
import { roundedStore } from '../../compress/quantize/rounded-store.ts';
import { parseWidth } from '../../compress/quantize/width.ts';
import { encodeArtifact } from '../../format/index.ts';
import type { Model } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { artifactBytes, plannedPeak } from './footprint.ts';
import { chooseMixture, type LatencyModel, type MixtureLimits } from './mixture.ts';
import { measureSensitivity, type Sensitivity } from './sensitivity.ts';

const WIDTHS = ['float16', 'int8', 'int4-g32', 'ternary-g32', 'binary-g32'];
const model = madeEncoder();
let sensitivity: Sensitivity;
beforeAll(async () => {
  sensitivity = await measureSensitivity(
    model,
    ['a small model runs', 'quick brown fox', 'every word known'],
    {
      widths: WIDTHS,
    },
  );
});

const build = async (widths: ReadonlyMap<string, string>): Promise<Model> => ({
  ...model,
  weights: roundedStore(model.weights, new Map([...widths].map(([name, text]) => [name, parseWidth(text)]))),
  recipe: [{ step: 'quantize', mixed: Object.fromEntries(widths) }],
});
const uniform = (width: string) => build(new Map(sensitivity.units.map(({ weight }) => [weight, width])));
const choose = (limits: MixtureLimits, more = {}) => chooseMixture({ sensitivity, limits, build, ...more });
const lossOf = (widths: ReadonlyMap<string, string>) =>
  sensitivity.units.reduce(
    (sum, unit) => sum + unit.widths.find(({ width }) => width === widths.get(unit.weight))!.output,
    0,
  );

describe('chooseMixture', () => {
  it('keeps a size to the byte, loses less than any uniform width of that size, and more the smaller it is', async () => {
    let before = 0;
    for (const width of WIDTHS.slice(0, -1)) {
      const size = artifactBytes(await uniform(width));
      const mixture = await choose({ sizeBytes: size });
      expect(mixture.exact).toBe(true);
      expect(mixture.sizeBytes).toBeLessThanOrEqual(size);
      expect((await encodeArtifact(mixture.model)).byteLength).toBe(mixture.sizeBytes);
      const alike = lossOf(new Map(sensitivity.units.map(({ weight }) => [weight, width])));
      const activations = sensitivity.activations.reduce((sum, { output }) => sum + output, 0);
      expect(mixture.loss).toBeLessThanOrEqual(alike + activations + 1e-12);
      expect(mixture.loss).toBeGreaterThanOrEqual(before);
      before = mixture.loss;
      expect(mixture.peakBytes).toBeNull();
      expect(mixture.latencyMs).toBeNull();
    }
  });

  it('keeps a peak as it is planned', async () => {
    const length = 16;
    const limit = await plannedPeak(await uniform('int4-g32'), length);
    const mixture = await choose({ memoryBytes: limit }, { length });
    expect(mixture.peakBytes).toBe(await plannedPeak(mixture.model, length));
    expect(mixture.peakBytes).toBeLessThanOrEqual(limit);
  });

  it('keeps a time by single products, beside a size', async () => {
    const latency: LatencyModel = {
      restMs: 1,
      unitMs: ({ product }, { codec }) =>
        product ? ({ float16: 4, int8: 1, int4: 2, ternary: 3 }[codec as string] ?? null) : 0,
    };
    const products = sensitivity.units.filter(({ product }) => product).length;
    const mixture = await choose({ latencyMs: 1 + products + 2 }, { latency });
    expect(mixture.latencyMs).toBeLessThanOrEqual(1 + products + 2);
    const used = [...mixture.widths].filter(([name]) => !name.startsWith('embedding.')).map(([, w]) => w);
    expect(new Set(used)).toEqual(new Set(['int8']));
    const sizeBytes = Math.round(artifactBytes(mixture.model) * 0.8);
    const both = await choose({ latencyMs: 1 + products + 2, sizeBytes }, { latency });
    expect(both.sizeBytes).toBeLessThanOrEqual(sizeBytes);
    expect(both.latencyMs).toBeLessThanOrEqual(1 + products + 2);
    expect([...both.widths.values()]).not.toContain('binary-g32');
  });

  it('leaves widths by hand as they are', async () => {
    const fixed = resolveMixed(model.weights.specs, { word: 'int8', '/layers\\.0\\..*value/': 'float16' });
    const size = artifactBytes(await uniform('int8'));
    const { widths } = await choose({ sizeBytes: size }, { fixed });
    expect(widths.get(names.word)).toBe('int8');
    // What is stacked with a float is one too.
    const { query, key, value } = names.layer(0);
    for (const name of [query, key, value]) expect(widths.get(`${name}.weight`)).toBe('float16');
  });

  it('refuses limits that cannot be kept, with the least, and no limit at all', async () => {
    const least = artifactBytes(await uniform('binary-g32'));
    await expect(choose({ sizeBytes: least - 1 })).rejects.toMatchObject({
      code: 'MIXTURE_INFEASIBLE',
      fields: { least: { sizeBytes: least } },
    });
    expect((await choose({ sizeBytes: least })).sizeBytes).toBe(least);
    await expect(choose({})).rejects.toMatchObject({ code: 'MIXTURE_LIMITS' });
  });

  it('finds the least size also where wider mixtures have longer headers', async () => {
    const header = async (widths: ReadonlyMap<string, string>): Promise<Model> => {
      const made = await build(widths);
      const narrow = [...widths.values()].every((width) => width === 'binary-g32');
      return narrow ? made : { ...made, recipe: [...made.recipe, { step: 'x'.repeat(200) }] };
    };
    const least = artifactBytes(await uniform('binary-g32'));
    expect((await choose({ sizeBytes: least }, { build: header })).sizeBytes).toBe(least);
    await expect(choose({ sizeBytes: least - 1 }, { build: header })).rejects.toMatchObject({
      code: 'MIXTURE_INFEASIBLE',
    });
  });
});
