import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { applyRecipe } from '../../compress/index.ts';
import { resolveMixed } from '../../compress/quantize/mixed.ts';
import { encodeArtifact } from '../../format/index.ts';
import { names } from '../../model/names.ts';
import { textContext } from '../text-context.ts';
import { findMixture, type MixtureProgress, type QuantizeMethod } from './find-mixture.ts';
import { dominated } from './front.ts';

const TEXTS = [
  'a small model runs',
  'every word known to it',
  'quick brown fox in the page and node alike',
  'fox',
  'the page runs in node',
  'a quick word',
  'known page',
  'it runs and runs',
  'a brown page known to a fox',
];
const WIDTHS = ['float16', 'int8', 'int4-g32', 'ternary-g32'];

describe('findMixture', () => {
  it.each<QuantizeMethod>(['rtn', 'gptq', 'smoothquant'])(
    'keeps the size by %s, and its step gives the same model again',
    async (method) => {
      const model = madeEncoder();
      const limit = (await encodeArtifact(await applyRecipe(model, [{ step: 'quantize', bits: 8 }])))
        .byteLength;
      const context = textContext(TEXTS);
      const steps: MixtureProgress[] = [];
      const found = await findMixture(model, TEXTS, {
        ...{ limits: { sizeBytes: limit }, widths: WIDTHS, method, context },
        onProgress: (progress) => steps.push(progress),
      });
      const bytes = await encodeArtifact(found.model);
      expect(bytes.byteLength).toBe(found.chosen.sizeBytes);
      expect(bytes.byteLength).toBeLessThanOrEqual(limit);
      const again = await encodeArtifact(await applyRecipe(model, [found.step], context));
      expect(Buffer.compare(Buffer.from(again), Buffer.from(bytes))).toBe(0);
      // What each weight loses alone adds up to about what all lose together.
      const { measured, predicted, unseen } = found.chosen;
      expect(measured.output / predicted).toBeGreaterThan(0.4);
      expect(measured.output / predicted).toBeLessThan(2.5);
      expect(unseen!.output).toBeLessThan(20 * measured.output);
      expect(found.unseenTexts).toBe(3);
      expect(found.sensitivity.texts).toBe(6);
      const fractions = steps.map(({ fraction }) => fraction);
      expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    },
  );

  it('has a front that no uniform width lies below', async () => {
    const model = madeEncoder();
    const found = await findMixture(model, TEXTS, {
      limits: { sizeBytes: 40_000 },
      ...{ widths: WIDTHS, frontPoints: 4 },
    });
    const mixed = found.front.filter(({ kind }) => kind === 'mixed');
    const uniform = found.front.filter(({ kind }) => kind === 'uniform');
    expect(uniform.map(({ name }) => name)).toEqual(WIDTHS);
    expect(mixed.length).toBeGreaterThanOrEqual(5);
    for (const point of mixed) {
      expect(
        dominated(
          { ...point, measured: { ...point.measured, output: point.predicted } },
          uniform.map((other) => ({ ...other, measured: { ...other.measured, output: other.predicted } })),
        ),
        point.name,
      ).toBe(false);
      expect(Object.keys(point.widths)).toHaveLength(found.sensitivity.units.length);
    }
    expect(mixed.filter(({ chosen }) => chosen)).toHaveLength(1);
  });

  it('keeps a time as single products take it, and widths by hand', async () => {
    const model = madeEncoder();
    const fixed = resolveMixed(model.weights.specs, { word: 'int8' });
    const found = await findMixture(model, TEXTS, {
      limits: { latencyMs: 1000 },
      ...{ widths: ['float16', 'int8'], fixed, maxTokens: 16 },
    });
    expect(found.latencyMs).toBeGreaterThan(0);
    expect(found.latencyMs).toBeLessThanOrEqual(1000);
    expect(found.chosen.widths[names.word]).toBe('int8');
    expect(found.chosen.widths[names.position]).toBe('float16');
  });

  it('asks for text', async () => {
    await expect(findMixture(madeEncoder(), [], { limits: { sizeBytes: 1e6 } })).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
    });
  });
});
