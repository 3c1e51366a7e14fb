import {
  columnsOf,
  elements,
  type GroupQuantization,
  groupSizeOf,
  isAffine,
  rowsOf,
  type WeightSpec,
} from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { cholesky } from './cholesky.ts';
import type { ChosenCodes } from './chosen-codes.ts';
import { type Clipping, GroupFitter } from './fit.ts';

export interface GptqOptions {
  /** Part of the mean of the moments' diagonal that is added to it. Default 0.01. */
  readonly damping?: number;
  /**
   * In which order columns are rounded: as they stand; those of the largest inputs first (`activation`); or whole
   * groups by their inputs, and in them the columns by theirs (`groups`, default). Only with `activation` do groups
   * get their scales before anything is rounded.
   */
  readonly order?: GptqOrder;
  readonly clipping?: Clipping;
  /** Called after each part of the rows. */
  readonly onProgress?: (fraction: number) => void;
}
export type GptqOrder = 'columns' | 'activation' | 'groups';

/** Rows that walk the columns together: each column's factors are read once for all of them. */
const TILE = 8;

/**
 * Rounds a weight column by column, each time moving the columns still to come so that the product's output changes
 * least: Frantar et al., 2023 (arXiv:2210.17323), algorithm 1. Written without an inverse: with H = R Rᵀ, R upper
 * triangular, the error is Σᵢ (Rᵢᵢ dᵢ + Σ_{j<i} Rⱼᵢ dⱼ)² for d = w − ŵ, so that column i is rounded from
 * wᵢ + Σ_{j<i} Rⱼᵢ dⱼ / Rᵢᵢ, which is what the paper's updates by the Cholesky factor of H⁻¹ come to.
 * @param moments `[columns, columns]`, of the product's inputs
 * @throws `GPTQ_SHAPE`, `WEIGHT_NOT_FINITE`, `WEIGHT_RANGE`, `NOT_POSITIVE_DEFINITE`
 */
export function gptq(
  spec: WeightSpec,
  values: Float32Array,
  moments: Float32Array,
  options: GptqOptions = {},
): ChosenCodes {
  const { damping = 0.01, order = 'groups', clipping = 'mse', onProgress } = options;
  const [rows, columns, size] = [rowsOf(spec.shape), columnsOf(spec.shape), groupSizeOf(spec)];
  if (moments.length !== columns * columns || values.length !== rows * columns || spec.perTensor)
    throw new AttenuateError(
      'GPTQ_SHAPE',
      `[gptq] statistics of another product: expected ${columns}² moments and a scale for each row or group, got ${moments.length}${spec.perTensor ? ' and one scale' : ''}. Calibrate on this model.`,
      { shape: spec.shape, moments: moments.length },
    );
  const places = orderOf(moments, columns, size, order);
  const { factors, pivots } = factorise(moments, places, damping);
  const codes = new Int8Array(elements(spec.shape));
  const scales = new Float32Array(codes.length / size);
  const zeros = new Uint8Array(scales.length);
  const fitter = new GroupFitter(spec, clipping);
  const groups = columns / size;
  const fixed = order === 'activation' || groups === 1;
  // What a column's error costs: once the later columns have made up for it; for whole rows, all by itself.
  const costs = Float64Array.from(pivots, (pivot) => pivot * pivot);
  const importance = fixed
    ? Float64Array.from({ length: columns }, (_, c) => moments[c * columns + c])
    : costs;
  const errors = Array.from({ length: TILE }, () => new Float64Array(columns));
  const targets = Array.from({ length: TILE }, () => new Float64Array(size));
  const sums = new Float64Array(TILE);
  const current: GroupQuantization[] = [];
  for (let row = 0; row < rows; row += TILE) {
    const tile = Math.min(TILE, rows - row);
    if (fixed)
      for (let r = 0; r < tile; r++)
        for (let g = 0; g < groups; g++) {
          const at = (row + r) * groups + g;
          const found = fitter.fit(values, at * size, importance, g * size);
          scales[at] = found.scale;
          zeros[at] = found.zero;
          if (groups === 1) current[r] = found;
        }
    for (let i = 0; i < columns; i++) {
      const column = places[i];
      const group = Math.floor(column / size);
      const place = i % size;
      if (!fixed && place === 0) {
        // All of this group's columns come now: their scale suits what the columns before have moved them to.
        for (let k = 0; k < size; k++) {
          dot(factors, (i + k) * columns, 0, i, errors, tile, sums);
          for (let r = 0; r < tile; r++)
            targets[r][k] = values[(row + r) * columns + places[i + k]] + sums[r];
        }
        for (let r = 0; r < tile; r++) {
          const at = (row + r) * groups + group;
          current[r] = fitter.fit(targets[r], 0, importance, i);
          scales[at] = current[r].scale;
          zeros[at] = current[r].zero;
        }
      }
      dot(factors, i * columns, fixed ? 0 : i - place, i, errors, tile, sums);
      for (let r = 0; r < tile; r++) {
        const at = (row + r) * columns + column;
        const target = (fixed ? values[at] : targets[r][place]) + sums[r];
        const known = (row + r) * groups + group;
        const found = fixed && groups > 1 ? { scale: scales[known], zero: zeros[known] } : current[r];
        const code = fitter.codeOf(target, found);
        codes[at] = code;
        errors[r][i] = values[at] - (code - found.zero) * found.scale;
      }
    }
    onProgress?.(Math.min(1, (row + tile) / rows));
  }
  return { codes, scales, zeros: isAffine(spec) ? zeros : undefined };
}

/** `sums[r] = Σ_{from ≤ j < to} factors[at + j] · errors[r][j]` for the rows of a tile. */
function dot(
  factors: Float32Array,
  at: number,
  from: number,
  to: number,
  errors: readonly Float64Array[],
  tile: number,
  sums: Float64Array,
): void {
  for (let r = 0; r < tile; r += 4) {
    const [e0, e1, e2, e3] = [errors[r], errors[r + 1], errors[r + 2], errors[r + 3]];
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let j = from; j < to; j++) {
      const factor = factors[at + j];
      s0 += factor * e0[j];
      s1 += factor * e1[j];
      s2 += factor * e2[j];
      s3 += factor * e3[j];
    }
    sums[r] = s0;
    sums[r + 1] = s1;
    sums[r + 2] = s2;
    sums[r + 3] = s3;
  }
}

/** Columns in the order in which they are rounded. */
function orderOf(moments: Float32Array, columns: number, size: number, order: GptqOrder): Int32Array {
  const all = Int32Array.from({ length: columns }, (_, c) => c);
  if (order === 'columns') return all;
  const power = (c: number) => moments[c * columns + c];
  if (order === 'activation') return all.sort((a, b) => power(b) - power(a));
  const groups = Array.from({ length: columns / size }, (_, g) =>
    all.slice(g * size, (g + 1) * size).sort((a, b) => power(b) - power(a)),
  );
  const total = (group: Int32Array) => group.reduce((sum, c) => sum + power(c), 0);
  groups.sort((a, b) => total(b) - total(a));
  return Int32Array.from(groups.flatMap((group) => [...group]));
}

/** `factors[i, j] = Rⱼᵢ / Rᵢᵢ` for j < i, and Rᵢᵢ, of the damped moments in an order: `H = R Rᵀ`, R upper triangular. */
function factorise(
  moments: Float32Array,
  order: Int32Array,
  damping: number,
): { factors: Float32Array; pivots: Float64Array } {
  const n = order.length;
  let trace = 0;
  for (let c = 0; c < n; c++) trace += moments[c * n + c];
  // Inputs that are always 0 say nothing: every error then costs the same.
  const ridge = trace > 0 ? (damping * trace) / n : 1;
  // A lower factor of the matrix read backwards is an upper one of the matrix.
  const flipped = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const from = order[n - 1 - i] * n;
    for (let j = 0; j <= i; j++) flipped[i * n + j] = moments[from + order[n - 1 - j]];
    flipped[i * n + i] += ridge;
  }
  cholesky(flipped, n);
  const factors = new Float32Array(n * n);
  const pivots = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const column = n - 1 - i;
    pivots[i] = flipped[column * n + column];
    for (let j = 0; j < i; j++) factors[i * n + j] = flipped[(n - 1 - j) * n + column] / pivots[i];
  }
  return { factors, pivots };
}
