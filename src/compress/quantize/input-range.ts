import type { Histogram } from './histogram.ts';

/** How a range is found for all inputs of a product. */
export const OBSERVERS = ['minmax', 'percentile', 'mse', 'entropy'] as const;
export type RangeObserver = (typeof OBSERVERS)[number];

export type Range = readonly [low: number, high: number];

/** Share of values that `percentile` leaves outside, half of it on each side. */
const OUTSIDE = 1e-4;
const LEVELS = 256;

/**
 * A range `[low, high]` that holds 0, for a product's inputs to be quantised by: all that was seen (`minmax`), all
 * but a ten-thousandth (`percentile`), the part of it with the least squared error in 256 codes (`mse`), or the
 * threshold whose codes tell least less than the values do (`entropy`: Migacz 2017, "8-bit Inference with TensorRT",
 * by the Kullback–Leibler divergence).
 */
export function rangeOf(histogram: Histogram, seen: Range, observer: RangeObserver): Range {
  const [low, high] = [Math.min(0, seen[0]), Math.max(0, seen[1])];
  if (observer === 'minmax' || !(high > low)) return [low, high];
  if (observer === 'percentile') {
    const [from, to] = percentiles(histogram);
    return [Math.max(low, Math.min(0, from)), Math.min(high, Math.max(0, to))];
  }
  if (observer === 'mse') return leastSquares(histogram, low, high);
  const threshold = entropyThreshold(histogram);
  return [Math.max(low, -threshold), Math.min(high, threshold)];
}

function percentiles(histogram: Histogram): Range {
  const { counts } = histogram;
  const total = counts.reduce((a, b) => a + b, 0);
  const find = (share: number): number => {
    let below = 0;
    for (let bin = 0; bin < counts.length; bin++) {
      below += counts[bin];
      if (below >= share * total) return histogram.valueAt(bin);
    }
    return histogram.reach;
  };
  return [find(OUTSIDE / 2), find(1 - OUTSIDE / 2)];
}

function leastSquares(histogram: Histogram, low: number, high: number): Range {
  const { counts } = histogram;
  let [best, least]: [Range, number] = [[low, high], Infinity];
  for (let part = 100; part >= 20; part--) {
    const range: Range = [(low * part) / 100, (high * part) / 100];
    const step = (range[1] - range[0]) / (LEVELS - 1);
    const zero = Math.round(-range[0] / step);
    let error = 0;
    for (let bin = 0; bin < counts.length; bin++) {
      if (counts[bin] === 0) continue;
      const x = histogram.valueAt(bin);
      const code = Math.max(0, Math.min(LEVELS - 1, Math.round(x / step) + zero));
      error += counts[bin] * (x - (code - zero) * step) ** 2;
    }
    if (error < least) [best, least] = [range, error];
  }
  return best;
}

/** Magnitude beyond which values are clipped. */
function entropyThreshold(histogram: Histogram): number {
  const { counts, reach } = histogram;
  const half = counts.length / 2;
  const magnitudes = Float64Array.from({ length: half }, (_, i) => counts[half + i] + counts[half - 1 - i]);
  const codes = LEVELS / 2;
  let [best, least] = [half, Infinity];
  for (let bins = codes; bins <= half; bins += 4) {
    const divergence = divergenceOf(magnitudes, bins, codes);
    if (divergence < least) [best, least] = [bins, divergence];
  }
  return (best / half) * reach;
}

/** KL(P ‖ Q): P the first `bins` with all beyond in the last, Q what `codes` equal steps can tell of them. */
function divergenceOf(magnitudes: Float64Array, bins: number, codes: number): number {
  const clipped = magnitudes.slice(0, bins);
  for (let i = bins; i < magnitudes.length; i++) clipped[bins - 1] += magnitudes[i];
  const told = new Float64Array(bins);
  for (let code = 0; code < codes; code++) {
    const [from, to] = [Math.floor((code * bins) / codes), Math.floor(((code + 1) * bins) / codes)];
    let [sum, used] = [0, 0];
    for (let i = from; i < to; i++) {
      sum += magnitudes[i];
      if (magnitudes[i] > 0) used++;
    }
    for (let i = from; i < to; i++) if (magnitudes[i] > 0) told[i] = sum / used;
  }
  const all = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
  const [p, q] = [all(clipped), all(told)];
  if (p === 0 || q === 0) return Infinity;
  let divergence = 0;
  for (let i = 0; i < bins; i++)
    // Where Q has nothing and P has something, a small share stands for nothing.
    if (clipped[i] > 0)
      divergence += (clipped[i] / p) * Math.log(clipped[i] / p / Math.max(told[i] / q, 1e-9));
  return divergence;
}
