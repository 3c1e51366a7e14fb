import type { Distance } from './distance.ts';

/** One way of storing a model's weights: its size, and how far its outputs are from the float model's. */
export interface FrontPoint {
  readonly name: string;
  readonly kind: 'mixed' | 'uniform';
  readonly widths: Readonly<Record<string, string>>;
  readonly sizeBytes: number;
  /** Sum of what the weights lose one by one. */
  readonly predicted: number;
  /** On the texts that widths were searched on. */
  readonly measured: Distance;
  /** On texts that the search did not see; null where there were too few. */
  readonly unseen: Distance | null;
  readonly chosen: boolean;
}

/** Whether another point is no larger and loses no more, and one of both is less. */
export const dominated = (point: FrontPoint, others: readonly FrontPoint[]): boolean =>
  others.some(
    (other) =>
      other.sizeBytes <= point.sizeBytes &&
      other.measured.output <= point.measured.output &&
      (other.sizeBytes < point.sizeBytes || other.measured.output < point.measured.output),
  );
