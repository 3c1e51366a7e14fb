/**
 * exp of numbers up to 0 by base-2 decomposition and a second-order polynomial: Kim et al. 2021 (I-BERT), section 3.5,
 * `exp(p) ≈ 0.3585 (p + 1.353)² + 0.344` for −ln 2 < p ≤ 0. The scale is fixed at ln 2 / 2^12, so that the
 * decomposition is a shift and a mask, and its constants are the same for every model.
 */
const [A, B, C] = [0.3585, 1.353, 0.344];

/** Bits behind the point of `t` in 2^−t. */
export const EXP_FRACTION = 12;
const UNIT = Math.LN2 / 2 ** EXP_FRACTION;
/** p + 1.353 at p = 0, and 0.344 / 0.3585, at that scale: their polynomial is below 2^27. */
export const EXP_OFFSET = Math.round(B / UNIT);
export const EXP_CONSTANT = Math.round(C / (A * UNIT * UNIT));
/** Bits taken off the polynomial, so that 16 are left. */
export const EXP_REDUCE = 11;
/** The largest weight, that of 2^0: weights have 12 bits. */
export const MOST_WEIGHT = 4095;
/** Bits taken off the product of what is left with `EXP_SCALE`; the product is below 2^31. */
export const EXP_SHIFT = 19;
export const EXP_SCALE = Math.floor(
  (MOST_WEIGHT * 2 ** EXP_SHIFT) / ((EXP_OFFSET ** 2 + EXP_CONSTANT) >> EXP_REDUCE),
);
/** From here on 2^−t is less than half a weight: 4095 · 2^−13 < ½. */
export const EXP_END = 13 << EXP_FRACTION;

/** `⌊4095 · 2^(−t / 2^12)⌉` for a whole number t ≥ 0, in 32-bit integers. */
export function integerExp(t: number): number {
  if (t >= EXP_END) return 0;
  const whole = t >> EXP_FRACTION;
  const part = t & ((1 << EXP_FRACTION) - 1);
  const polynomial = (EXP_OFFSET - part) ** 2 + EXP_CONSTANT;
  const product = (polynomial >> EXP_REDUCE) * EXP_SCALE;
  return ((product >> whole) + (1 << (EXP_SHIFT - 1))) >> EXP_SHIFT;
}
