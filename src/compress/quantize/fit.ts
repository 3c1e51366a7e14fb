import {
  codeFormat,
  columnsOf,
  type EncodeOptions,
  elements,
  type GroupQuantization,
  groupSizeOf,
  isAffine,
  nearestCode,
  quantizeGroup,
  storedScale,
  type WeightSpec,
} from '../../tensor/codec.ts';
import type { ChosenCodes } from './chosen-codes.ts';

/**
 * How a group gets its scale: by its largest value (binary: mean magnitude; ternary: TWN's threshold), by the mean
 * magnitude (`absmean`, ternary alone), or the scale of the least squared error.
 */
export type Clipping = 'max' | 'absmean' | 'mse';

/** Parts of the range that the search starts from: nearly all of it to less than half. */
const SHRINKS = Array.from({ length: 16 }, (_, i) => 1 - i * 0.036);
/** After each start the scale that is best for its codes is tried, which gives other codes, and so on. */
const ROUNDS = 3;

/**
 * Chooses scales of groups, one at a time: with `mse` the least Σ importance · (w − ŵ)² over a few parts of the
 * group's range, each with the scale that is best for the codes it gives; never worse than by the largest value.
 */
export class GroupFitter {
  private readonly spec: WeightSpec;
  private readonly clipping: Clipping;
  private readonly ternary: EncodeOptions;
  private readonly values: Float64Array;
  private readonly weights: Float64Array;
  private readonly low: number;
  private readonly high: number;
  /** Of the last `sum`. */
  private products = 0;
  private squares = 0;

  constructor(spec: WeightSpec, clipping: Clipping) {
    this.spec = spec;
    this.clipping = clipping;
    this.ternary = { ternary: clipping === 'absmean' ? 'absmean' : 'twn' };
    this.values = new Float64Array(groupSizeOf(spec));
    this.weights = new Float64Array(groupSizeOf(spec)).fill(1);
    const { low, high } = codeFormat(spec);
    [this.low, this.high] = [low, high];
  }

  /**
   * @param from where in `values` the group starts
   * @param importance of each of its values, from `first` on; absent: all alike
   * @throws `WEIGHT_NOT_FINITE`, `WEIGHT_RANGE`
   */
  fit(
    values: Float32Array | Float64Array,
    from: number,
    importance?: Float64Array,
    first = 0,
  ): GroupQuantization {
    const { spec, weights } = this;
    const size = this.values.length;
    const plain = quantizeGroup(spec, values, from, from + size, this.ternary);
    if (this.clipping !== 'mse' || !(plain.scale > 0)) return plain;
    for (let i = 0; i < size; i++) this.values[i] = values[from + i];
    if (importance) for (let i = 0; i < size; i++) weights[i] = importance[first + i];
    let power = 0;
    for (let i = 0; i < size; i++) power += weights[i] * this.values[i] * this.values[i];
    if (spec.codec === 'binary') return this.binary();
    let best: GroupQuantization = { scale: plain.scale, zero: plain.zero };
    let least = Infinity;
    for (const { scale: start, zero } of this.starts(plain)) {
      let scale = start;
      for (let round = 0; round < ROUNDS && scale > 0; round++) {
        this.sum(scale, zero);
        const error = power - 2 * scale * this.products + scale * scale * this.squares;
        if (error < least) [best, least] = [{ scale, zero }, error];
        const next = this.products > 0 ? storedScale(spec, this.products / this.squares) : 0;
        if (next === scale) break;
        scale = next;
      }
    }
    return best;
  }

  /** Whatever the scale, codes are signs: the best scale is the mean magnitude. */
  private binary(): GroupQuantization {
    let [sum, all] = [0, 0];
    for (let i = 0; i < this.values.length; i++) {
      sum += this.weights[i] * Math.abs(this.values[i]);
      all += this.weights[i];
    }
    return { scale: storedScale(this.spec, all > 0 ? sum / all : 0), zero: 0 };
  }

  private *starts(plain: GroupQuantization): Iterable<GroupQuantization> {
    const { spec, high: steps } = this;
    let [low, high] = [0, 0];
    for (const w of this.values) {
      if (w < low) low = w;
      if (w > high) high = w;
    }
    const affine = isAffine(spec);
    const range = affine ? high - low : Math.max(-low, high);
    if (spec.codec === 'ternary') yield { scale: plain.scale, zero: 0 };
    for (const shrink of SHRINKS) {
      const scale = storedScale(spec, (shrink * range) / steps);
      const zero = affine && scale > 0 ? Math.round((-low * shrink) / scale) : 0;
      yield { scale, zero: Math.max(0, Math.min(steps, zero)) };
    }
  }

  /** Σ importance · code · w and Σ importance · code², of the codes less the zero point that a scale gives. */
  private sum(scale: number, zero: number): void {
    const { values, weights } = this;
    const [low, high] = [this.low - zero, this.high - zero];
    const inverse = 1 / scale;
    let [products, squares] = [0, 0];
    for (let i = 0; i < values.length; i++) {
      let code = Math.round(values[i] * inverse);
      if (code < low) code = low;
      if (code > high) code = high;
      const weighted = weights[i] * code;
      products += weighted * values[i];
      squares += weighted * code;
    }
    this.products = products;
    this.squares = squares;
  }

  /** The nearest code; of int4 and int2 with clipping also −8 and −2, which the codec's own rounding leaves out. */
  codeOf(value: number, group: GroupQuantization): number {
    if (this.clipping !== 'mse' || this.spec.codec === 'binary' || !(group.scale > 0))
      return nearestCode(this.spec, value, group);
    const code = Math.round(value / group.scale) + group.zero;
    return code < this.low ? this.low : code > this.high ? this.high : code;
  }
}

/**
 * Every group's scale by `clipping`, and the nearest codes.
 * @param importance of each column, e.g. the mean square of its inputs; absent: all alike
 * @throws `WEIGHT_NOT_FINITE`, `WEIGHT_RANGE`
 */
export function roundToNearest(
  spec: WeightSpec,
  values: Float32Array,
  clipping: Clipping,
  importance?: Float64Array,
): ChosenCodes {
  const size = groupSizeOf(spec);
  const columns = columnsOf(spec.shape);
  const codes = new Int8Array(elements(spec.shape));
  const scales = new Float32Array(codes.length / size);
  const zeros = new Uint8Array(scales.length);
  const fitter = new GroupFitter(spec, clipping);
  // A single scale for the whole tensor spans rows: columns then weigh alike.
  const weights = size <= columns ? importance : undefined;
  for (let g = 0, from = 0; g < scales.length; g++, from += size) {
    const group = fitter.fit(values, from, weights, from % columns);
    scales[g] = group.scale;
    zeros[g] = group.zero;
    for (let i = from; i < from + size; i++) codes[i] = fitter.codeOf(values[i], group);
  }
  return { codes, scales, zeros: isAffine(spec) ? zeros : undefined };
}
