import type { WeightSpec } from '../tensor/codec.ts';
import type { Dim } from '../tensor/dim.ts';
import type { DType } from '../tensor/dtype.ts';

/** One tensor in SSA form: written once, by an input or by one output of one node. */
export interface Value {
  readonly id: number;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** A weight that the Program reads, by name; its bytes live in the Model. */
export interface Parameter extends WeightSpec {
  readonly name: string;
}

/** One op. `rowWise`: row i of each output depends on row i of each input alone, so rows may run in chunks. */
export interface Node<Kind extends string = string, Attributes = unknown> {
  readonly kind: Kind;
  readonly inputs: readonly Value[];
  readonly parameters: readonly Parameter[];
  readonly outputs: readonly Value[];
  readonly attributes: Attributes;
  readonly rowWise: boolean;
  /** Parameters whose gradient this node adds to, in training; each has one gradient however often it is used. */
  readonly gradients?: readonly Parameter[];
  /** Parameters that this node sets, before any node reads them: they live as long as a run. */
  readonly sets?: readonly Parameter[];
}

/** A cut of the node list: nodes `from` to `to` (exclusive). */
export interface Stage {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/** What tracing a forward function gives: a flat list of ops, symbolic in `B` and `N`. */
export interface Program {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: readonly Node[];
  readonly stages: readonly Stage[];
}
