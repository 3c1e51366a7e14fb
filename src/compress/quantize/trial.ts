import { columnsOf, isFloat, type WeightSpec } from '../../tensor/codec.ts';
import { valuesOf } from './chosen-codes.ts';
import { byColumns } from './companions.ts';
import { roundToNearest } from './fit.ts';

/** A product as floats, and how it will be stored. */
export interface TrialProduct {
  readonly values: Float32Array;
  readonly spec: WeightSpec;
}

/** Codes of an activation. */
const LEVELS = 256;
/** Rows of input that a trial runs, at most. */
const ROWS = 64;

/**
 * Products of one input, run on rows of it as they would run once quantised: the squared error of their outputs, for
 * scales of the input's columns that are tried one after another.
 */
export class Trial {
  private readonly products: readonly TrialProduct[];
  private readonly rows: Float32Array;
  private readonly columns: number;
  private readonly exact: readonly Float32Array[];

  /** @param samples `[rows, columns]` */
  constructor(products: readonly TrialProduct[], samples: Float32Array) {
    this.products = products;
    this.columns = columnsOf(products[0].spec.shape);
    this.rows = evenly(samples, this.columns);
    this.exact = products.map(({ values }) => multiply(this.rows, values, this.columns));
  }

  /** Σ‖W x − Ŵ x̂‖², x̂ and Ŵ quantised after x is divided by s, and W multiplied, column by column; null: s = 1. */
  error(scale: Float32Array | null): number {
    const { columns } = this;
    const rows = quantizedRows(
      scale
        ? byColumns(
            this.rows,
            scale.map((s) => 1 / s),
          )
        : this.rows,
      columns,
    );
    let sum = 0;
    for (const [p, { values, spec }] of this.products.entries()) {
      const scaled = scale ? byColumns(values, scale) : values;
      const rounded = isFloat(spec.codec) ? scaled : valuesOf(spec, roundToNearest(spec, scaled, 'max'));
      const out = multiply(rows, rounded, columns);
      const exact = this.exact[p];
      for (let i = 0; i < out.length; i++) sum += (out[i] - exact[i]) ** 2;
    }
    return sum;
  }

  /**
   * Of the scales that a strength from 0.1 to 0.9 gives, in tenths and then a twentieth to each side of the best, that
   * of the least error; null where leaving the input as it is loses no more.
   */
  best(scaleOf: (strength: number) => Float32Array): Float32Array | null {
    let [best, at, least]: [Float32Array | null, number, number] = [null, 0, this.error(null)];
    const consider = (strength: number) => {
      const scale = scaleOf(strength);
      const error = this.error(scale);
      if (error < least) [best, at, least] = [scale, strength, error];
    };
    for (let tenths = 1; tenths <= 9; tenths++) consider(tenths / 10);
    if (best) for (const strength of [at - 0.05, at + 0.05]) consider(strength);
    return best;
  }
}

function evenly(samples: Float32Array, columns: number): Float32Array {
  const count = samples.length / columns;
  if (count <= ROWS) return samples;
  const out = new Float32Array(ROWS * columns);
  for (let i = 0; i < ROWS; i++) {
    const from = Math.floor((i * count) / ROWS) * columns;
    out.set(samples.subarray(from, from + columns), i * columns);
  }
  return out;
}

/** Rows as their codes say, each by its own range. */
export function quantizedRows(rows: Float32Array, columns: number): Float32Array {
  const out = new Float32Array(rows.length);
  for (let from = 0; from < rows.length; from += columns) {
    let [low, high] = [0, 0];
    for (let c = 0; c < columns; c++) {
      const x = rows[from + c];
      if (x < low) low = x;
      if (x > high) high = x;
    }
    const step = Math.max((high - low) / (LEVELS - 1), 1e-30);
    const zero = Math.round(-low / step);
    for (let c = 0; c < columns; c++)
      out[from + c] = (Math.min(LEVELS - 1, Math.round(rows[from + c] / step) + zero) - zero) * step;
  }
  return out;
}

/** `x Wᵀ`, x `[rows, columns]`, W `[outputs, columns]`. */
function multiply(x: Float32Array, w: Float32Array, columns: number): Float32Array {
  const [rows, outputs] = [x.length / columns, w.length / columns];
  const out = new Float32Array(rows * outputs);
  // Four rows meet two rows of weights together; past the end the last one stands in.
  for (let row = 0; row < rows; row += 4) {
    const [a, b, c, d] = [0, 1, 2, 3].map((k) => Math.min(rows - 1, row + k));
    const [xa, xb, xc, xd] = [a, b, c, d].map((r) => x.subarray(r * columns, (r + 1) * columns));
    for (let n = 0; n < outputs; n += 2) {
      const m = Math.min(outputs - 1, n + 1);
      const [wn, wm] = [n, m].map((r) => w.subarray(r * columns, (r + 1) * columns));
      let [an, bn, cn, dn, am, bm, cm, dm] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let k = 0; k < columns; k++) {
        const u = wn[k];
        const v = wm[k];
        const p = xa[k];
        const q = xb[k];
        const r = xc[k];
        const s = xd[k];
        an += u * p;
        bn += u * q;
        cn += u * r;
        dn += u * s;
        am += v * p;
        bm += v * q;
        cm += v * r;
        dm += v * s;
      }
      out[a * outputs + n] = an;
      out[b * outputs + n] = bn;
      out[c * outputs + n] = cn;
      out[d * outputs + n] = dn;
      out[a * outputs + m] = am;
      out[b * outputs + m] = bm;
      out[c * outputs + m] = cm;
      out[d * outputs + m] = dm;
    }
  }
  return out;
}
