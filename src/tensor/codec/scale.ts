import { AttenuateError } from '../error.ts';
import { roundFloat16 } from '../half.ts';
import { codeFormat } from './layout.ts';
import { columnsOf, isAffine, scaleTypeOf, type WeightSpec } from './spec.ts';

export interface GroupQuantization {
  readonly scale: number;
  /** Zero point; 0 unless the scheme is affine. */
  readonly zero: number;
  /** Ternary: a larger magnitude has a code other than 0; absent: half the scale. */
  readonly threshold?: number;
}

export interface EncodeOptions {
  /**
   * How a ternary group gets its scale and codes. `twn`: codes beyond 0.7 · mean|w|, scale the mean of those
   * (Li, Zhang and Liu 2016, section 2.2). `absmean`: scale mean|w|, codes rounded and clipped (Ma et al. 2024,
   * BitNet b1.58, section 2).
   */
  readonly ternary?: 'twn' | 'absmean';
}

/** A scale as it will be stored. @throws `WEIGHT_RANGE` when float16 cannot hold it */
export function storedScale(spec: WeightSpec, scale: number): number {
  if (scaleTypeOf(spec) === 'float32') return Math.fround(scale);
  const rounded = roundFloat16(scale);
  if (rounded === Infinity)
    throw new AttenuateError(
      'WEIGHT_RANGE',
      `[encode] weights too large for float16 scales: expected a scale below 65520, got ${scale}. Choose scaleType float32.`,
      { scale },
    );
  return rounded;
}

/**
 * Scale and zero point of the group `values[from … to)`, to the nearest code by its largest magnitude (symmetric,
 * codes −q … q), by its range widened to hold 0 (affine), by its mean magnitude (binary: Rastegari et al. 2016,
 * section 3.1) or as `options.ternary` says. A group of zeros, or of what float32 cannot divide, has scale 0.
 * @throws `WEIGHT_NOT_FINITE`, `WEIGHT_RANGE`
 */
export function quantizeGroup(
  spec: WeightSpec,
  values: ArrayLike<number>,
  from: number,
  to: number,
  { ternary = 'twn' }: EncodeOptions = {},
): GroupQuantization {
  let [low, high, sum] = [0, 0, 0];
  for (let i = from; i < to; i++) {
    const w = values[i];
    if (!(Math.abs(w) < Infinity)) throw notFinite(spec, w, i);
    if (w < low) low = w;
    if (w > high) high = w;
    sum += Math.abs(w);
  }
  const largest = Math.max(-low, high);
  // A subnormal scale would overflow its reciprocal: such a group is zero to float32 precision.
  if (largest < 1e-35) return { scale: 0, zero: 0 };
  const { codec } = spec;
  const mean = sum / (to - from);
  const steps = codeFormat(spec).high;
  if (isAffine(spec)) {
    const scale = storedScale(spec, (high - low) / steps);
    return { scale, zero: scale > 0 ? clamp(Math.round(-low / scale), 0, steps) : 0 };
  }
  if (codec === 'binary' || (codec === 'ternary' && ternary === 'absmean'))
    return { scale: storedScale(spec, mean), zero: 0 };
  if (codec === 'ternary') {
    let [above, count] = [0, 0];
    for (let i = from; i < to; i++)
      if (Math.abs(values[i]) > 0.7 * mean) {
        above += Math.abs(values[i]);
        count++;
      }
    return { scale: storedScale(spec, above / count), zero: 0, threshold: 0.7 * mean };
  }
  return { scale: storedScale(spec, largest / steps), zero: 0 };
}

/** The code nearest to a value under a stored scale; 0, or a sign where the codec has no 0, under the scale 0. */
export function nearestCode(spec: WeightSpec, value: number, group: GroupQuantization): number {
  const { scale, zero, threshold } = group;
  if (spec.codec === 'binary') return value < 0 ? -1 : 1;
  if (!(scale > 0)) return 0;
  if (threshold !== undefined) return Math.abs(value) > threshold ? Math.sign(value) : 0;
  const { low, high } = codeFormat(spec);
  return clamp(Math.round(value / scale) + zero, isAffine(spec) ? low : -high, high);
}

const clamp = (x: number, low: number, high: number): number => Math.max(low, Math.min(high, x));

export function notFinite({ shape }: WeightSpec, value: number, index: number): AttenuateError {
  const columns = columnsOf(shape);
  const [row, column] = [Math.floor(index / columns), index % columns];
  return new AttenuateError(
    'WEIGHT_NOT_FINITE',
    `[quantize] weight that is not finite: expected a number, got ${value} in row ${row}. Repair the model before quantising it.`,
    { row, column },
  );
}
