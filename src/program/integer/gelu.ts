/** x·Φ(x) by the second-order polynomial for erf of Kim et al. 2021 (I-BERT), section 3.4, equations 6 to 8. */
const A = 0.2888;
const B = 1.769;

/** Codes that go into GELU are of 16 bits. */
export const GELU_INPUT = 2 ** 15;

/**
 * The constants of i-GELU for inputs of `fraction` bits behind the point. With q = x · 2^fraction:
 * `L(x / √2) = sgn(x) · (1 − 0.2888 · (1.769 − min(|x| / √2, 1.769))²)` becomes `sgn(q) · (one − (bound − min(|q|,
 * bound))²)` over `one`, and `GELU = x · (1 + L) / 2` becomes `q · ⌊(one + L) / 2^reduce⌉` at the scale `scale`.
 */
export interface GeluConstants {
  readonly fraction: number;
  /** 1.769 · √2 at the scale of q. */
  readonly bound: number;
  /** 1 at the scale of the polynomial. */
  readonly one: number;
  /** Bits taken off (one + L), so that it has at most 16. */
  readonly reduce: number;
  /** Real value of 1 in the result. */
  readonly scale: number;
}

/** Most bits behind the point: inputs then reach to ±32. */
export const MOST_FRACTION = 10;
/** Least: inputs reach to ±512 in steps of 1/64. */
export const LEAST_FRACTION = 6;

/**
 * Ranges: |q| ≤ 2^15; bound² < one < 6.93 · 4^fraction, so that 0 ≤ one + L ≤ 2·one < 2^24 at the most bits, below 2^16
 * when reduced: q · (…) stays below 2^31.
 */
export function geluConstants(fraction: number): GeluConstants {
  const bound = Math.round(B * Math.SQRT2 * 2 ** fraction);
  const one = Math.round(4 ** fraction / (A / 2));
  const reduce = 2 * fraction - 12;
  return { fraction, bound, one, reduce, scale: 2 ** (reduce - fraction) / (2 * one) };
}

/** i-GELU of q, clamped to 16 bits before: an integer at the scale `constants.scale`. */
export function integerGelu(q: number, { bound, one, reduce }: GeluConstants): number {
  const x = Math.max(1 - GELU_INPUT, Math.min(GELU_INPUT - 1, q));
  const t = bound - Math.min(Math.abs(x), bound);
  const erf = Math.sign(x) * (one - t * t);
  return x * Math.floor((one + erf) / 2 ** reduce + 0.5);
}
