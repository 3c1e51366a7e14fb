import type { CodeSpec } from '../../model/config.ts';
import type { Distribution } from '../quantize/distribution.ts';

/** Where a tensor's codes end: at its extremes, or where the mean squared error is least. */
export type Clip = 'range' | 'error';

/** Shares of the range that are tried as ends, besides all of it. */
const SHARES = Array.from({ length: 60 }, (_, i) => 1 - i / 64);
/** What a tensor of zeros is given: any scale serves. */
const NOTHING = 1;

/** Σ (|x| − end)² over what lies beyond each candidate end, on one side. */
function beyond({ histogram }: Distribution, ends: readonly number[], sign: 1 | -1): number[] {
  const { counts } = histogram;
  return ends.map((end) => {
    let sum = 0;
    for (let bin = 0; bin < counts.length; bin++) {
      const over = sign * histogram.valueAt(bin) - end;
      if (over > 0 && counts[bin] > 0) sum += counts[bin] * over * over;
    }
    return sum;
  });
}

/**
 * Codes −127 … 127 about 0 for a tensor that products of two activations are taken of. Rounding costs scale² / 12 a
 * number, clipping what lies beyond, both as the histogram has them.
 */
export function symmetricCodes(seen: Distribution, clip: Clip): CodeSpec {
  const reach = Math.max(-seen.least, seen.most, 0);
  if (reach === 0) return { scale: NOTHING, zeroPoint: 0 };
  const ends = (clip === 'range' ? [1] : SHARES).map((share) => share * reach);
  const total = seen.histogram.counts.reduce((a, b) => a + b, 0);
  const [low, high] = ([-1, 1] as const).map((sign) => beyond(seen, ends, sign));
  const errors = ends.map((end, i) => (total * (end / 127) ** 2) / 12 + low[i] + high[i]);
  return { scale: ends[errors.indexOf(Math.min(...errors))] / 127, zeroPoint: 0 };
}

/** Codes −128 … 127 from one end to the other of what is seen, widened to hold 0, which has a code of its own. */
export function affineCodes(seen: Distribution, clip: Clip): CodeSpec {
  const [low, high] = [Math.max(-seen.least, 0), Math.max(seen.most, 0)];
  if (low + high === 0) return { scale: NOTHING, zeroPoint: 0 };
  const shares = clip === 'range' ? [1] : SHARES;
  const total = seen.histogram.counts.reduce((a, b) => a + b, 0);
  const lows = shares.map((share) => share * low);
  const highs = shares.map((share) => share * high);
  const [below, above] = [beyond(seen, lows, -1), beyond(seen, highs, 1)];
  let best = { error: Infinity, from: low, to: high };
  lows.forEach((from, i) => {
    highs.forEach((to, j) => {
      const error = (total * ((from + to) / 255) ** 2) / 12 + below[i] + above[j];
      if (error < best.error) best = { error, from, to };
    });
  });
  const scale = (best.from + best.to) / 255;
  return { scale, zeroPoint: Math.max(-128, Math.min(127, Math.round(best.from / scale) - 128)) };
}

/** Bits that the largest number seen has in a sum of 32 bits: what is left is for what was not seen. */
const SUM_BITS = 15;

/** The scale of a sum, whose range is not that of its codes: up to 64 times the largest seen for rows of 512. */
export function sumCodes(seen: Distribution): CodeSpec {
  const reach = Math.max(-seen.least, seen.most, 0);
  return { scale: reach > 0 ? reach / 2 ** SUM_BITS : NOTHING, zeroPoint: 0 };
}
