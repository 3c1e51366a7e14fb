import type { Program, Value } from '../../program/program.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { Histogram } from './histogram.ts';

/** A value of a Program whose numbers a step asks for, or one of `of` equal parts of it in row-major order. */
export interface WatchedValue {
  readonly name: string;
  readonly value: Value;
  readonly part?: { readonly index: number; readonly of: number };
}
/** Which values of a model's Program are wanted. */
export type Watch = (program: Program) => readonly WatchedValue[];

/** How the numbers of one tensor are distributed on the user's text. */
export interface Distribution {
  readonly least: number;
  readonly most: number;
  readonly histogram: Histogram;
}

/** Takes a tensor's numbers, one run after another. */
export class DistributionObserver {
  private least = Infinity;
  private most = -Infinity;
  private readonly histogram = new Histogram();

  /** @throws `CALIBRATION_NOT_FINITE` */
  add(values: Float32Array): void {
    for (const x of values) {
      if (x < this.least) this.least = x;
      if (x > this.most) this.most = x;
      if (!(Math.abs(x) < Infinity))
        throw new AttenuateError(
          'CALIBRATION_NOT_FINITE',
          `[calibrate] an activation that is not finite: expected a number, got ${x}. Repair the model, or leave out the text that does it.`,
        );
    }
    this.histogram.add(values, Math.max(Math.abs(this.least), Math.abs(this.most)));
  }

  read(): Distribution {
    return { least: this.least, most: this.most, histogram: this.histogram };
  }
}
