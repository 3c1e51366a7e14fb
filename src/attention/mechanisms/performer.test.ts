import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { randomDirections } from '../initialise/orthogonal.ts';
import type { LayerShape } from '../mechanism.ts';
import { parseOptions } from '../options.ts';
import performer, { expectedSquaredError } from './performer.ts';

const D = 8;
/** A fair draw falls outside once in 150,000. */
const SIGMAS = 4.5;

/** Estimates of exp(q·k/√D) over its true value, each from features of its own. */
function relativeEstimates(
  q: number[],
  k: number[],
  m: number,
  orthogonal: boolean,
  draws: number,
  seed: number,
) {
  const random = new Random(seed);
  const [x, y] = [q, k].map((row) => row.map((v) => v / D ** 0.25));
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  const truth = Math.exp(dot(x, y));
  return Array.from({ length: draws }, () => {
    const W = randomDirections(random, m, D, orthogonal);
    let sum = 0;
    for (let f = 0; f < m; f++) {
      let [u, v] = [-dot(x, x) / 2, -dot(y, y) / 2];
      for (let d = 0; d < D; d++) {
        u += W[f * D + d] * x[d];
        v += W[f * D + d] * y[d];
      }
      sum += Math.exp(u) * Math.exp(v);
    }
    return sum / m / truth;
  });
}

const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / x.length;
const squaredError = (x: readonly number[]): number => mean(x.map((v) => (v - 1) ** 2));

const [q, k] = [3, 4].map((seed) => [...new Random(seed).gaussians(D, 0.35)]);
const squaredNorm = q.reduce((sum, v, i) => sum + (v + k[i]) ** 2, 0);

describe('positive random features', () => {
  it.each([true, false])('estimate the softmax kernel without bias, orthogonal: %s', (orthogonal) => {
    const estimates = relativeEstimates(q, k, 16, orthogonal, 4000, 21);
    const error = Math.sqrt(squaredError(estimates) / estimates.length);
    expect(Math.abs(mean(estimates) - 1)).toBeLessThan(SIGMAS * error);
  });

  it('err as the formula says when they are independent', () => {
    for (const m of [8, 32]) {
      const measured = squaredError(relativeEstimates(q, k, m, false, 8000, 22));
      // The mean of 8,000 squares: its own deviation is about 2%.
      expect(measured / expectedSquaredError(squaredNorm, D, m)).toBeGreaterThan(0.9);
      expect(measured / expectedSquaredError(squaredNorm, D, m)).toBeLessThan(1.1);
    }
  });

  it('err less when they are orthogonal: about 0.8 of it at these norms, D = 8', () => {
    const [x, y] = [q, k].map((row) => row.map((v) => v * Math.sqrt((1.5 * Math.sqrt(D)) / squaredNorm)));
    const ratios = [23, 24, 25].map(
      (seed) => squaredError(relativeEstimates(x, y, D, true, 8000, seed)) / (Math.expm1(1.5) / D),
    );
    expect(Math.max(...ratios)).toBeLessThan(0.95);
    expect(mean(ratios)).toBeLessThan(0.9);
  });

  it('err as one over the root of their number', () => {
    const errors = [8, 32, 128].map((m) =>
      Math.sqrt(squaredError(relativeEstimates(q, k, m, true, 2000, 24))),
    );
    for (const i of [1, 2]) {
      expect(errors[i - 1] / errors[i]).toBeGreaterThan(1.8);
      expect(errors[i - 1] / errors[i]).toBeLessThan(2.2);
    }
  });

  it('are said to fail at unit variance', () => {
    expect(expectedSquaredError(2 * 64, 64, 256)).toBeGreaterThan(1e4);
    expect(expectedSquaredError(0, 64, 256)).toBe(0);
  });
});

describe('features of a layer', () => {
  const layer = (index: number, headSize = 20): LayerShape => ({
    index,
    inputSize: 40,
    heads: 2,
    headSize,
    maxLength: 64,
  });
  const make = async (shape: LayerShape, given = {}) => {
    const options = parseOptions('performer', performer.options, given);
    const weight = () => Promise.reject(new Error('not asked for'));
    const made = await performer.initialise!({ layer: shape, weight, calibration: null }, options as never);
    return made.get('features')!;
  };

  it('are padded with zeros, the same for a seed, others for another seed or layer', async () => {
    const { shape, data } = await make(layer(0));
    expect(shape).toEqual([1, 256, 24]);
    expect(data.every((x, i) => (i % 24 >= 20 ? x === 0 : x !== 0))).toBe(true);
    expect((await make(layer(0))).data).toEqual(data);
    expect((await make(layer(0), { seed: 2 })).data).not.toEqual(data);
    expect((await make(layer(1))).data).not.toEqual(data);
  });

  it('are those of each head where it asks for them', async () => {
    const { shape, data } = await make(layer(0), { perHead: true, features: 16 });
    expect(shape).toEqual([2, 16, 24]);
    expect(data.slice(0, 16 * 24)).not.toEqual(data.slice(16 * 24));
  });

  it('come in eights', () => {
    const refuse = (features: number) => performer.refuse!(layer(0), { features } as never);
    expect(refuse(64)).toBeNull();
    expect(refuse(65)).toContain('Take 72');
    expect(() => parseOptions('performer', performer.options, { features: 4 })).toThrow(
      expect.objectContaining({ code: 'ATTENTION_OPTION' }),
    );
  });
});
