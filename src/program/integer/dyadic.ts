import { AttenuateError } from '../../tensor/error.ts';

/**
 * A positive number as integer arithmetic multiplies by it: `multiplier / 2^shift`, 0 ≤ multiplier < 2^31 and
 * 1 ≤ shift ≤ 62 (a dyadic number: Yao et al. 2021, HAWQ-V3, section 3.1; Jacob et al. 2018, section 2.2).
 */
export interface Dyadic {
  readonly multiplier: number;
  readonly shift: number;
}

export const MOST_SHIFT = 62;
const MOST_MULTIPLIER = 2 ** 31 - 1;

/**
 * `⌊x · multiplier / 2^shift + ½⌋`, exact. Of |x| ≤ 2^31 and a multiplier below 2^31 the product with its half stays
 * below 2^63, so that 64 bits hold it. What it gives must fit 32 bits: kernels keep no more, and whoever makes the
 * multiplier proves it.
 */
export function multiplyShift(x: number, multiplier: number, shift: number): number {
  const product = x * multiplier;
  if (Math.abs(product) < 2 ** 52 && shift < 52) return Math.floor((product + 2 ** (shift - 1)) / 2 ** shift);
  const exact = BigInt(x) * BigInt(multiplier) + (1n << BigInt(shift - 1));
  return Number(exact >> BigInt(shift));
}

/** ⌊log₂ x⌋ of a positive number, from its bits alone: the same on every engine. */
export function exponentOf(x: number): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  return ((view.getUint32(0) >>> 20) & 0x7ff) - 1023;
}

/**
 * The shift that gives the largest of some factors as many bits as a multiplier may have.
 * @throws `INTEGER_RANGE` for a factor that is negative, not finite or 2^30 and more
 */
export function shiftFor(factors: Iterable<number>, bits = 31): number {
  let largest = 0;
  for (const factor of factors) {
    if (!(factor >= 0 && factor < 2 ** (bits - 1)))
      throw new AttenuateError(
        'INTEGER_RANGE',
        `[integer] factor between two scales out of range: expected 0 … 2^${bits - 1}, got ${factor}. Calibrate on text like that which the model will see, or leave this layer in floating point.`,
        { factor },
      );
    largest = Math.max(largest, factor);
  }
  if (largest === 0) return 1;
  const shift = Math.min(MOST_SHIFT, bits - 1 - exponentOf(largest));
  // Rounding may carry the largest over the edge.
  return Math.round(largest * 2 ** shift) < 2 ** bits ? shift : shift - 1;
}

/** A factor as a multiplier for a shift that `shiftFor` chose. */
export const multiplierFor = (factor: number, shift: number): number =>
  Math.min(MOST_MULTIPLIER, Math.round(factor * 2 ** shift));

/** @param bits of the multiplier @throws `INTEGER_RANGE` as `shiftFor` */
export function dyadic(factor: number, bits = 31): Dyadic {
  const shift = shiftFor([factor], bits);
  return { multiplier: multiplierFor(factor, shift), shift };
}

export const clamp = (x: number, low: number, high: number): number => Math.max(low, Math.min(high, x));
