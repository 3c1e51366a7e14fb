import { AttenuateError } from '../../tensor/error.ts';
import { Histogram } from './histogram.ts';

/** What the inputs of a product look like on the user's text. */
export interface InputStatistics {
  readonly columns: number;
  /** Rows (tokens) that were seen. */
  readonly rows: number;
  /** Of each column. */
  readonly least: Float32Array;
  readonly most: Float32Array;
  readonly mean: Float32Array;
  readonly meanMagnitude: Float32Array;
  readonly meanSquare: Float32Array;
  /** Of all values. */
  readonly histogram: Histogram;
  /** Some of the rows, taken evenly, `[samples, columns]`. */
  readonly samples: Float32Array;
  /** Mean of `x xᵀ` over the rows, `[columns, columns]`; null where nobody asked. */
  readonly moments: Float32Array | null;
}

/** Statistics of a model's products, by the name of the weight that an input is multiplied with. */
export type ObservedInputs = ReadonlyMap<string, InputStatistics>;

export interface ObserveRequest {
  /** Weights whose inputs are wanted, e.g. `layers.0.attention.query.weight`. */
  readonly products: readonly string[];
  /** Whether second moments are wanted too: `columns²` floats each. */
  readonly moments: boolean;
}

/** Rows kept as they are, at most. */
const SAMPLES = 256;

/** The state of an `InputObserver`: JSON and arrays, for a file. */
export interface ObserverState {
  readonly columns: number;
  readonly rows: number;
  readonly stride: number;
  readonly kept: number;
  readonly reach: number;
  readonly arrays: readonly (Float32Array | Float64Array)[];
}

/** Takes a product's inputs row by row and keeps what they have in common: fixed memory, one pass. */
export class InputObserver {
  readonly columns: number;
  private rows = 0;
  private stride = 1;
  private kept = 0;
  private readonly histogram = new Histogram();
  private readonly least: Float32Array;
  private readonly most: Float32Array;
  private readonly sums: Float64Array;
  private readonly magnitudes: Float64Array;
  private readonly squares: Float64Array;
  private readonly samples: Float32Array;

  constructor(columns: number) {
    this.columns = columns;
    this.least = new Float32Array(columns).fill(Infinity);
    this.most = new Float32Array(columns).fill(-Infinity);
    this.sums = new Float64Array(columns);
    this.magnitudes = new Float64Array(columns);
    this.squares = new Float64Array(columns);
    this.samples = new Float32Array(SAMPLES * columns);
  }

  /** @param rows `[n, columns]` @throws `CALIBRATION_NOT_FINITE` */
  add(rows: Float32Array): void {
    const { columns, least, most, sums, magnitudes, squares } = this;
    let largest = 0;
    for (let from = 0; from < rows.length; from += columns) {
      for (let c = 0; c < columns; c++) {
        const x = rows[from + c];
        const magnitude = Math.abs(x);
        if (!(magnitude < Infinity))
          throw new AttenuateError(
            'CALIBRATION_NOT_FINITE',
            `[calibrate] an activation that is not finite: expected a number, got ${x} in column ${c}. Repair the model, or leave out the text that does it.`,
            { column: c },
          );
        if (x < least[c]) least[c] = x;
        if (x > most[c]) most[c] = x;
        if (magnitude > largest) largest = magnitude;
        sums[c] += x;
        magnitudes[c] += magnitude;
        squares[c] += x * x;
      }
      if (this.rows++ % this.stride === 0) this.keep(rows.subarray(from, from + columns));
    }
    this.histogram.add(rows, largest);
  }

  /** Every `stride`-th row; when there is no room, every second of those goes and the stride doubles. */
  private keep(row: Float32Array): void {
    const { columns, samples } = this;
    if (this.kept === SAMPLES) {
      for (let i = 0; 2 * i < SAMPLES; i++)
        samples.copyWithin(i * columns, 2 * i * columns, (2 * i + 1) * columns);
      this.kept = SAMPLES / 2;
      this.stride *= 2;
      // SAMPLES is even: the row at hand is one of those that the doubled stride takes.
    }
    samples.set(row, this.kept++ * columns);
  }

  /** @param total `Σ x xᵀ` over the same rows, or null */
  statistics(total: Float32Array | null): InputStatistics {
    const { columns, rows } = this;
    if (rows === 0)
      throw new AttenuateError(
        'CALIBRATION_EMPTY',
        '[calibrate] a product that no text reached: expected at least one row, got none. Pass text like that which the model will see.',
      );
    return {
      columns,
      rows,
      least: this.least.slice(),
      most: this.most.slice(),
      mean: Float32Array.from(this.sums, (sum) => sum / rows),
      meanMagnitude: Float32Array.from(this.magnitudes, (sum) => sum / rows),
      meanSquare: Float32Array.from(this.squares, (sum) => sum / rows),
      histogram: new Histogram(this.histogram.counts.slice(), this.histogram.reach),
      samples: this.samples.slice(0, this.kept * columns),
      moments: total?.map((sum) => sum / rows) ?? null,
    };
  }

  private arrays(): (Float32Array | Float64Array)[] {
    const { least, most, sums, magnitudes, squares, samples, histogram } = this;
    return [least, most, sums, magnitudes, squares, samples, histogram.counts];
  }

  state(): ObserverState {
    const { columns, rows, stride, kept, histogram } = this;
    return { columns, rows, stride, kept, reach: histogram.reach, arrays: this.arrays() };
  }

  /** Goes on from a state of an observer of as many columns. */
  restore({ rows, stride, kept, reach, arrays }: ObserverState): void {
    this.rows = rows;
    this.stride = stride;
    this.kept = kept;
    this.histogram.reach = reach;
    for (const [i, array] of this.arrays().entries()) array.set(arrays[i]);
  }
}
