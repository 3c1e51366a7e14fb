import type { Program } from '../../../program/program.ts';
import type { Bindings } from '../../../tensor/dim.ts';

/** A group of parameters that are updated alike. */
export interface UpdateGroup {
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** One update by AdamW (Loshchilov and Hutter 2019, algorithm 2). */
export interface AdamW {
  /** By index: the groups that `groupOf` of `create` put each parameter into. */
  readonly groups: readonly UpdateGroup[];
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Counts from 1: what the bias correction is for. */
  readonly step: number;
  /** The gradient is scaled down so that its norm is at most this. Absent: no clipping. */
  readonly maxNorm?: number;
}

export type StepInputs = Readonly<Record<string, Int32Array | Float32Array>>;

/**
 * A TrainingProgram with its weights, gradients and moments in one WebAssembly memory. Views are live: they show what
 * a step or an update writes, and are to be asked for anew after anything that may let the memory grow (`step`,
 * `forward`).
 */
export interface TrainingMachine {
  /** Bytes of weights, gradients and moments together, and of the whole memory. */
  readonly stateBytes: number;
  readonly memoryBytes: number;
  /** Bytes of activations of a step, exact, before anything is allocated. */
  peakBytes(bindings: Bindings): number;
  /** Weights of the shape traced, row-major; frozen ones too. To set them, write to the view. */
  weight(name: string): Float32Array;
  gradient(name: string): Float32Array;
  /** First and second moments. */
  moments(name: string): readonly [Float32Array, Float32Array];
  clearGradients(): void;
  /**
   * Forward and backward: adds to the gradients, gives the Program's outputs, the loss first. Inputs that are absent:
   * `lossScale` is 1.
   */
  step(bindings: Bindings, inputs: StepInputs, signal?: AbortSignal): Promise<Float32Array[]>;
  /** Runs one of the other Programs given to `create` with the weights as they are: evaluation. */
  forward(
    program: Program,
    bindings: Bindings,
    inputs: StepInputs,
    signal?: AbortSignal,
  ): Promise<Float32Array[]>;
  /** Euclidean norm over all gradients, the same on any number of threads. */
  gradientNorm(): Promise<number>;
  /** Changes weights and moments; gives the gradient's norm before clipping. Gradients stay: clear them. */
  update(options: AdamW): Promise<number>;
  dispose(): void;
}
