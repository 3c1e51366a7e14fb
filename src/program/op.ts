import { isFloat } from '../tensor/codec.ts';
import type { Bindings } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Node, Parameter } from './program.ts';

/** A concrete tensor of the reference backend; integers and codes are held as float64 too. */
export interface ReferenceTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** A weight: its values in `data`, or for an integer product or an embedding in an integer codec its codes. */
export interface ReferenceParameter extends ReferenceTensor {
  /** Of codes: a scale, and where affine a zero point, per group; code i belongs to group ⌊i / groupSize⌋. */
  readonly quantization?: {
    readonly scales: Float32Array;
    readonly zeros?: Float32Array;
    readonly groupSize: number;
  };
}

export interface ReferenceContext {
  readonly inputs: readonly ReferenceTensor[];
  readonly parameters: readonly ReferenceParameter[];
  readonly outputShapes: readonly (readonly number[])[];
  readonly bindings: Bindings;
  /** Codes of a quantised activation: 128 or 256. */
  readonly levels: 128 | 256;
}

export interface Work {
  readonly multiplyAdds: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Concrete shapes that `work` asks for. */
export interface WorkContext {
  readonly inputs: readonly (readonly number[])[];
  readonly outputs: readonly (readonly number[])[];
  readonly bindings: Bindings;
}

/** All that is known of an op kind besides its kernels: work, reference in float64, error budget of a backend. */
export interface OpDefinition<N extends Node = Node> {
  readonly kind: N['kind'];
  /** Multiply-adds of one run; bytes are counted from shapes by `program/cost`. */
  multiplyAdds(node: N, context: WorkContext): number;
  reference(node: N, context: ReferenceContext): Float64Array[];
  /** A backend's output y must satisfy |y − r| ≤ absolute + relative · max|r|. */
  readonly budget: { readonly absolute: number; readonly relative: number };
}

/** @throws `INDEX_OUT_OF_RANGE` unless `index` is a whole number from 0 to `size` − 1 */
export function checkIndex(op: string, what: string, index: number, size: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= size)
    throw new AttenuateError(
      'INDEX_OUT_OF_RANGE',
      `[${op}] ${what} outside its table: expected 0 … ${size - 1}, got ${index}. Check what made the indices.`,
      { op, index, size },
    );
}

export function shapeError(op: string, what: string, expected: string, got: string): AttenuateError {
  return new AttenuateError(
    'SHAPE_MISMATCH',
    `[${op}] ${what}: expected ${expected}, got ${got}. Check the shapes that feed this op.`,
    { op, expected, got },
  );
}

/** Refuses a weight of another codec than the one that an op reads. */
export function expectCodec(op: string, { name, codec }: Parameter, expected: Parameter['codec']): void {
  if (codec !== expected)
    throw new AttenuateError(
      'CODEC_UNSUPPORTED',
      `[${op}] ${name} in a codec that is not read here: expected ${expected}, got ${codec}. Check the step that made this model.`,
      { op, name },
    );
}

/** Refuses a weight in an integer codec where an op reads floats. */
export function expectFloat(op: string, parameter: Parameter): void {
  if (!isFloat(parameter.codec))
    throw new AttenuateError(
      'CODEC_UNSUPPORTED',
      `[${op}] ${parameter.name} in a codec that is not read here: expected float32, float16 or bfloat16, got ${parameter.codec}. Quantise matrices only.`,
      { op, name: parameter.name },
    );
}
