import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { awqScale } from './awq.ts';
import { smoothingScale } from './smooth.ts';
import { InputObserver } from './statistics.ts';
import { Trial } from './trial.ts';

const K = 48;
const random = new Random(11);
const spec: WeightSpec = { codec: 'int8', shape: [32, K] };
const values = random.gaussians(32 * K, 0.05);
/** Inputs of which two columns are far larger than the others, and one is never fed. */
const rows = random.gaussians(200 * K);
for (let r = 0; r < 200; r++) {
  rows[r * K + 5] *= 30;
  rows[r * K + 17] *= 60;
  rows[r * K + 20] = 0;
}
const observer = new InputObserver(K);
observer.add(rows);
const statistics = observer.statistics(null);
const product = { values, spec };

const geometricMean = (scale: Float32Array) =>
  Math.exp(scale.reduce((sum, s) => sum + Math.log(s), 0) / scale.length);

describe('scales of inputs', () => {
  it('are those of the papers, but for a common factor', () => {
    const largest = (c: number) =>
      Math.max(...Array.from({ length: 32 }, (_, r) => Math.abs(values[r * K + c])));
    const magnitude = (c: number) => Math.max(statistics.most[c], -statistics.least[c]);
    for (const alpha of [0, 0.3, 1]) {
      const scale = smoothingScale(statistics, [product], alpha);
      const want = (c: number) => magnitude(c) ** alpha / largest(c) ** (1 - alpha);
      for (const c of [5, 17, 31]) expect(scale[c] / scale[2]).toBeCloseTo(want(c) / want(2), 3);
      expect(geometricMean(scale)).toBeCloseTo(1, 4);
    }
    const scale = awqScale(statistics, 0.5);
    const { meanMagnitude } = statistics;
    expect(scale[17] / scale[2]).toBeCloseTo(Math.sqrt(meanMagnitude[17] / meanMagnitude[2]), 4);
    expect(geometricMean(scale)).toBeCloseTo(1, 4);
  });

  it('are positive and finite for columns that are never fed or never used', () => {
    const dead = { values: values.map((v, i) => (i % K === 8 ? 0 : v)), spec };
    for (const strength of [0, 0.5, 1])
      for (const scale of [smoothingScale(statistics, [dead], strength), awqScale(statistics, strength)])
        expect(scale.every((s) => s > 0 && s < Infinity)).toBe(true);
    const silent = new InputObserver(K);
    silent.add(new Float32Array(K));
    expect([...awqScale(silent.statistics(null), 0.5)]).toEqual(Array(K).fill(1));
  });
});

describe('Trial', () => {
  it('knows the error of a product run in integers', () => {
    const trial = new Trial([product], rows);
    // Activations dominate: 256 codes over a row whose largest values are some 60 times the others.
    const step = 150 / 255;
    const expected = 64 * 32 * K * (step ** 2 / 12) * 0.05 ** 2;
    const error = trial.error(null);
    expect(error).toBeGreaterThan(expected / 6);
    expect(error).toBeLessThan(expected * 6);
  });

  it('finds scales that lose much less where columns are uneven', () => {
    const trial = new Trial([product], rows);
    const best = trial.best((alpha) => smoothingScale(statistics, [product], alpha))!;
    expect(trial.error(best)).toBeLessThan(trial.error(null) / 4);
    const weights = { values, spec: { codec: 'int4', shape: [32, K] } as WeightSpec };
    const low = new Trial([weights], rows);
    const scaled = low.best((ratio) => awqScale(statistics, ratio))!;
    expect(low.error(scaled)).toBeLessThan(low.error(null) / 1.5);
  });

  it('leaves an input alone where nothing is gained', () => {
    const trial = new Trial([product], rows);
    const harmful = () => Float32Array.from({ length: K }, (_, c) => (c === 5 ? 0.01 : c === 9 ? 100 : 1));
    expect(trial.best(harmful)).toBeNull();
  });

  it('sums over all products that read the input, floats without loss of their own', () => {
    const float = { values, spec: { codec: 'float32', shape: [32, K] } as WeightSpec };
    const [a, b] = [new Trial([product], rows).error(null), new Trial([float], rows).error(null)];
    expect(new Trial([product, float], rows).error(null)).toBeCloseTo(a + b, 6);
    expect(b).toBeLessThan(a);
  });
});
