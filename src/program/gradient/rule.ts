import type { Dim } from '../../tensor/dim.ts';
import type { DType } from '../../tensor/dtype.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

/** Where a rule puts the gradients of its node's inputs. */
export interface GradientSink {
  /** Whether anything that is trained lies behind input `i`. */
  wants(i: number): boolean;
  /** The sum that other nodes have given input `i`, null before the first. */
  soFar(i: number): Value | null;
  /** Adds a gradient of input `i`. */
  add(i: number, gradient: Value): void;
  /** Replaces what was gathered by a sum that a kernel has already made of it. */
  replace(i: number, total: Value): void;
}

/** A node emitted for training. */
export interface Emitted {
  readonly outputs: readonly Value[];
  /** Emits the backward nodes. `gradients` holds one of each output, null where none came. */
  backward(gradients: readonly (Value | null)[], sink: GradientSink): void;
}

/** How one kind of op is differentiated: in terms of ops, forward ones and those that exist for this alone. */
export interface GradientRule<N extends Node = Node> {
  readonly kind: N['kind'];
  /** Emits the node's forward part, in the form whose backward pass needs the least. `trains` tells of parameters. */
  emit(t: Tracer, node: N, inputs: readonly Value[], trains: (parameter: Parameter) => boolean): Emitted;
}

/** The node once more, with other inputs. */
export function again(t: Tracer, node: Node, inputs: readonly Value[]): Value[] {
  const { kind, parameters, attributes, rowWise } = node;
  const outputs = node.outputs.map(({ name, dtype, shape }): [string, DType, readonly Dim[]] => [
    name.slice(name.indexOf('.') + 1),
    dtype,
    shape,
  ]);
  return t.emit(kind, { inputs, parameters, outputs, attributes, rowWise });
}

/** A rule whose forward part is the node as it is. */
export const plainRule = <N extends Node>(
  kind: N['kind'],
  backward: (
    t: Tracer,
    node: N,
    flow: {
      readonly inputs: readonly Value[];
      readonly outputs: readonly Value[];
      readonly gradients: readonly (Value | null)[];
      readonly sink: GradientSink;
      readonly trains: (parameter: Parameter) => boolean;
    },
  ) => void,
): GradientRule<N> => ({
  kind,
  emit(t, node, inputs, trains) {
    const outputs = again(t, node, inputs);
    return {
      outputs,
      backward: (gradients, sink) => backward(t, node, { inputs, outputs, gradients, sink, trains }),
    };
  },
});

/** @throws always: an op that no gradient flows through */
export function notDifferentiable(kind: string, why: string): never {
  throw new AttenuateError(
    'NOT_DIFFERENTIABLE',
    `[gradient] ${kind} has no gradient: expected an op that can be trained through, got ${kind}, ${why}. Freeze what lies before it, or choose another mechanism.`,
    { kind },
  );
}
