import { AttenuateError } from '../tensor/error.ts';
import { seeded } from './random.ts';
import type { Interval } from './result.ts';

/** Share of equal entries. */
export function accuracy<T>(predicted: readonly T[], truth: readonly T[]): number {
  let hits = 0;
  for (let i = 0; i < truth.length; i++) if (predicted[i] === truth[i]) hits++;
  return hits / truth.length;
}

/** Ranks from 1; equal values share the mean of their ranks. */
export function ranks(values: ArrayLike<number>): Float64Array {
  const order = Uint32Array.from({ length: values.length }, (_, i) => i).sort(
    (a, b) => values[a] - values[b],
  );
  const out = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from + 1;
    while (to < order.length && values[order[to]] === values[order[from]]) to++;
    for (let i = from; i < to; i++) out[order[i]] = (from + to + 1) / 2;
    from = to;
  }
  return out;
}

/** Spearman's rank correlation with ties: Pearson's correlation of the ranks. 0 where one side is constant. */
export function spearman(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [x, y] = [ranks(a), ranks(b)];
  const mean = (x.length + 1) / 2;
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i] - mean, y[i] - mean];
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : 0;
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : aa === bb ? 1 : 0;
}

/** The value below which a share `p` of the values lies, between neighbours in proportion. */
export function quantile(values: readonly number[], p: number): number {
  if (values.length === 0)
    throw new AttenuateError(
      'METRIC_EMPTY',
      '[quantile] no values: expected at least 1, got 0. Pass values.',
    );
  const sorted = [...values].sort((a, b) => a - b);
  const at = p * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** A metric of the examples at `indices`, repeats allowed. */
export type Statistic = (indices: Uint32Array) => number;

/**
 * Percentile bootstrap of two systems on the same examples: each resample is used for both, so that `drop`
 * (baseline − candidate) has the narrower interval of a paired comparison. Seeded. 95 %.
 */
export function pairedBootstrap(
  n: number,
  candidate: Statistic,
  baseline: Statistic,
  options: { resamples?: number; seed?: number } = {},
): { metric: Interval; drop: Interval } {
  const { resamples = 1000, seed = 1 } = options;
  const random = seeded(seed);
  const indices = new Uint32Array(n);
  const values: number[] = [];
  const drops: number[] = [];
  for (let r = 0; r < resamples; r++) {
    for (let i = 0; i < n; i++) indices[i] = Math.floor(random() * n);
    const value = candidate(indices);
    values.push(value);
    drops.push(baseline(indices) - value);
  }
  const all = Uint32Array.from({ length: n }, (_, i) => i);
  const value = candidate(all);
  const interval = (center: number, samples: number[]): Interval => ({
    value: center,
    low: quantile(samples, 0.025),
    high: quantile(samples, 0.975),
  });
  return { metric: interval(value, values), drop: interval(baseline(all) - value, drops) };
}
