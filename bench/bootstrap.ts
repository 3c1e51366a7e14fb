import { Random } from '../src/tensor/random.ts';
import { spearman } from './outputs.ts';

export interface Interval {
  readonly value: number;
  /** Standard error, and the percentile interval of 95 %. */
  readonly error: number;
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 1000;

/**
 * Spearman's correlation of `ours` with `truth` less that of `other`, over the same pairs: percentile bootstrap that draws
 * pairs, 1,000 times, always the same ones.
 */
export function correlationGain(
  ours: readonly number[],
  other: readonly number[],
  truth: readonly number[],
): Interval {
  const gain = (of: ArrayLike<number>) => {
    const pick = (values: readonly number[]) => Array.from(of, (i) => values[i]);
    const drawn = pick(truth);
    return spearman(pick(ours), drawn) - spearman(pick(other), drawn);
  };
  const random = new Random(1);
  const draws = Array.from({ length: RESAMPLES }, () =>
    gain(Uint32Array.from(truth, () => random.integer(truth.length))),
  ).sort((a, b) => a - b);
  const mean = draws.reduce((a, b) => a + b, 0) / RESAMPLES;
  return {
    value: gain(Uint32Array.from(truth, (_, i) => i)),
    error: Math.sqrt(draws.reduce((sum, draw) => sum + (draw - mean) ** 2, 0) / RESAMPLES),
    low: draws[Math.floor(0.025 * RESAMPLES)],
    high: draws[Math.ceil(0.975 * RESAMPLES) - 1],
  };
}
