import type { CodeSpec } from '../../model/config.ts';
import { multiplierFor, shiftFor } from '../../program/integer/dyadic.ts';
import { UNIT_BITS } from '../../program/integer/sqrt.ts';
import { NORM_FRACTION, normLimit } from '../../program/ops/int-layer-norm.ts';
import { type Codes, columnsOf, encodeCodes, rowsOf, type Weight } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';

/** The integers that a product, a norm or a table multiplies by. */
export interface Multipliers {
  readonly multiplier: Int32Array;
  readonly shift: number;
}
export interface Affine extends Multipliers {
  readonly bias: Int32Array;
}

const INT32 = 2 ** 31;
/** A bias of a product is given at most this many units, so that a row's scale follows a bias that dwarfs it. */
const MOST_BIAS = 2 ** 24;
/** A row of zeros without a bias has this scale: any serves. */
const LEAST_SCALE = 1e-30;

function outOfRange(name: string, what: string, most: number, got: number): AttenuateError {
  return new AttenuateError(
    'INTEGER_RANGE',
    `[integer] ${what} of ${name} beyond 32 bits: expected less than ${most}, got ${got}. Calibrate on text like that which the model will see, or leave this model in floating point.`,
    { name, got },
  );
}

function multipliersOf(factors: readonly number[]): Multipliers {
  const shift = shiftFor(factors.map(Math.abs));
  return { shift, multiplier: Int32Array.from(factors, (factor) => multiplierFor(factor, shift)) };
}

/**
 * A matrix as int8 with a scale for each row: max|w| / 127, or as much as keeps the row's bias within 2^24 units of
 * the product with codes of scale `x`.
 */
export function int8Matrix(
  shape: readonly number[],
  values: Float32Array,
  bias: Float32Array,
  x: number,
): Weight {
  const [rows, columns] = [rowsOf(shape), columnsOf(shape)];
  const codes = new Int8Array(values.length);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    let largest = 0;
    for (let i = from; i < from + columns; i++) largest = Math.max(largest, Math.abs(values[i]));
    scales[row] = Math.max(largest / 127, leastScale(bias[row], x));
    for (let i = from; i < from + columns; i++)
      codes[i] = Math.max(-127, Math.min(127, Math.round(values[i] / scales[row])));
  }
  return encodeCodes({ codec: 'int8', shape }, codes, scales);
}

/** The least scale that a row of weights may have. */
export const leastScale = (bias: number, x: number): number =>
  Math.max(Math.abs(bias) / (MOST_BIAS * x), LEAST_SCALE);

/**
 * The integers of a product: `(Σ x·w + bias) · multiplier / 2^shift` is its value in units of `unit`. Proves what
 * `intLinear` asks for, over all codes that x can have: sums below 2^31, and what they are brought to plus `added`, the
 * reach of a residual in the same units, below 2^31.
 * @throws `INTEGER_RANGE`
 */
export function productConstants(
  name: string,
  { codes, scales }: Pick<Codes, 'codes' | 'scales'>,
  bias: Float32Array,
  x: CodeSpec,
  unit: number,
  added = 0,
): Affine {
  const columns = codes.length / scales.length;
  const units = Array.from(scales, (scale) => x.scale * scale);
  const factors = units.map((u) => u / unit);
  const { multiplier, shift } = multipliersOf(factors);
  const integers = Int32Array.from(units, (u, row) => {
    let [sum, reach] = [0, 0];
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      sum += codes[i];
      reach += Math.abs(codes[i]);
    }
    const integer = Math.round(bias[row] / u) - x.zeroPoint * sum;
    const most = 128 * reach + Math.abs(integer);
    if (!(most < INT32)) throw outOfRange(name, `a sum of row ${row}`, INT32, most);
    const brought = most * factors[row] + added + 256;
    if (!(brought < INT32)) throw outOfRange(name, `what row ${row} is brought to`, INT32, brought);
    return integer;
  });
  return { multiplier, shift, bias: integers };
}

/** The integers of a LayerNorm that gives codes: see `intLayerNorm`. @throws `INTEGER_RANGE` */
export function normConstants(name: string, scale: Float32Array, bias: Float32Array, to: CodeSpec): Affine {
  const columns = scale.length;
  const unit = to.scale / 2 ** NORM_FRACTION;
  const gains = Array.from(scale, (gamma) => (gamma * Math.sqrt(columns)) / unit);
  const integers = Int32Array.from(bias, (beta, c) => {
    // A row of length 2^20 has no element beyond 2^21.
    const reach = 2 * Math.abs(gains[c]) + Math.abs(beta / unit) + 256;
    if (!(reach < INT32)) throw outOfRange(name, `column ${c}`, INT32, reach);
    return Math.round(beta / unit);
  });
  return { ...multipliersOf(gains.map((gain) => gain / 2 ** UNIT_BITS)), bias: integers };
}

/** Bits that the largest sum of an embedding's rows has, where a norm of as many columns takes as many. */
const EMBEDDING_BITS = 20;

/** One table of an embedding: the scales of its int8 rows, and what its values are multiplied by. */
export interface TableScales {
  readonly name: string;
  readonly scales: Float32Array;
  readonly factor: number;
}

/**
 * The scale of an embedding's sum and the multipliers of its tables. No text can pass the largest sum that these rows
 * have, 127 times the largest scales: nothing is clamped.
 */
export function embeddingConstants(
  tables: readonly TableScales[],
  columns: number,
): { readonly scale: number; readonly shift: number; readonly multipliers: ReadonlyMap<string, Int32Array> } {
  const largest = (scales: Float32Array) => scales.reduce((a, b) => Math.max(a, b), 0);
  const reach = tables.reduce((sum, { scales, factor }) => sum + 127 * factor * largest(scales), 0);
  const scale = reach > 0 ? reach / Math.min(2 ** EMBEDDING_BITS, normLimit(columns) - 2) : 1;
  const factorsOf = ({ scales, factor }: TableScales) => Array.from(scales, (s) => (s * factor) / scale);
  const shift = shiftFor(tables.flatMap(factorsOf));
  return {
    scale,
    shift,
    multipliers: new Map(
      tables.map((table) => [
        table.name,
        Int32Array.from(factorsOf(table), (factor) => multiplierFor(factor, shift)),
      ]),
    ),
  };
}
