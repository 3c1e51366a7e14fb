import { describe, expect, it } from 'vitest';
import { minimize } from './lbfgs.ts';
import { accuracy, cosine, pairedBootstrap, quantile, ranks, spearman } from './metrics.ts';
import { chooseStrength, fitProbe, predict } from './probe.ts';
import { seeded } from './random.ts';

describe('metrics', () => {
  it('shares ranks between ties', () => {
    expect([...ranks([10, 20, 20, 5])]).toEqual([2, 3.5, 3.5, 1]);
  });

  it('gives Spearman with ties as Pearson of the ranks', () => {
    expect(spearman([1, 2, 3, 4], [1, 4, 9, 16])).toBeCloseTo(1, 12);
    expect(spearman([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1, 12);
    // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: 4.5 / √(4.5 · 5).
    expect(spearman([1, 2, 2, 3], [1, 3, 2, 4])).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5), 12);
    expect(spearman([1, 1, 1], [1, 2, 3])).toBe(0);
  });

  it('gives quantiles, accuracy and cosine', () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([7], 0.95)).toBe(7);
    expect(accuracy(['a', 'b'], ['a', 'c'])).toBe(0.5);
    expect(cosine([1, 0], [1, 1])).toBeCloseTo(Math.SQRT1_2, 12);
  });

  it('bootstraps a candidate and its drop in pairs', () => {
    const right = Array.from({ length: 400 }, (_, i) => (i % 5 ? 1 : 0));
    const worse = right.map((r, i) => (i % 20 === 1 ? 0 : r));
    const mean = (of: number[]) => (at: Uint32Array) => at.reduce((sum, i) => sum + of[i], 0) / at.length;
    const { metric, drop } = pairedBootstrap(400, mean(worse), mean(right), { seed: 3 });
    expect(metric.value).toBeCloseTo(0.75, 12);
    // Normal approximation: ±1.96 √(0.75 · 0.25 / 400).
    expect(metric.high - metric.low).toBeCloseTo(0.085, 2);
    expect(drop.value).toBeCloseTo(0.05, 12);
    expect(drop.low).toBeGreaterThan(0.02);
    expect(drop.high).toBeLessThan(0.08);
    expect(pairedBootstrap(400, mean(worse), mean(right), { seed: 3 })).toEqual({ metric, drop });
    expect(pairedBootstrap(400, mean(right), mean(right)).drop).toEqual({ value: 0, low: 0, high: 0 });
  });
});

describe('minimize', () => {
  it('finds the minimum of an ill-scaled quadratic', async () => {
    const { x, converged } = await minimize(
      ([a, b], g) => {
        g.set([2 * (a - 3), 200 * (b + 1)]);
        return (a - 3) ** 2 + 100 * (b + 1) ** 2;
      },
      new Float64Array(2),
      { tolerance: 1e-9 },
    );
    expect(converged).toBe(true);
    expect(x[0]).toBeCloseTo(3, 6);
    expect(x[1]).toBeCloseTo(-1, 6);
  });

  it('stops when aborted', async () => {
    const signal = AbortSignal.abort();
    await expect(minimize(() => 0, new Float64Array(1), { signal })).rejects.toThrow();
  });
});

describe('probe', () => {
  const random = seeded(5);
  const make = (n: number) =>
    Array.from({ length: n }, (_, i) => {
      const k = i % 3;
      const noise = () => (random() - 0.5) * 0.8;
      return {
        row: [k === 0 ? 1 : noise(), k === 1 ? 1 : noise(), k === 2 ? 1 : noise(), 5],
        label: 'abc'[k],
      };
    });
  const train = make(150);
  const test = make(60);
  const rows = train.map(({ row }) => row);
  const labels = train.map(({ label }) => label);

  it('separates what a plane separates, repeatably', async () => {
    const c = await chooseStrength(rows, labels, { seed: 1 });
    const probe = await fitProbe(rows, labels, { c });
    const again = await fitProbe(rows, labels, { c });
    expect(again.weights).toEqual(probe.weights);
    const predicted = predict(
      probe,
      test.map(({ row }) => row),
    );
    expect(
      accuracy(
        predicted,
        test.map(({ label }) => label),
      ),
    ).toBeGreaterThan(0.95);
  });

  it('finds the same optimum from elsewhere', async () => {
    const cold = await fitProbe(rows, labels, { c: 0.3 });
    const warm = await fitProbe(rows, labels, { c: 0.3, start: cold.weights.map((w, i) => w + Math.sin(i)) });
    const D = cold.mean.length;
    warm.weights.forEach((w, i) => {
      // A constant added to every bias changes nothing.
      if (i % (D + 1) !== D) expect(Math.abs(w - cold.weights[i])).toBeLessThan(0.02);
    });
  });
});
