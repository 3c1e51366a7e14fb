import { byteSize } from '../tensor/codec.ts';
import { type Bindings, evaluateDim } from '../tensor/dim.ts';
import { byteWidth } from '../tensor/dtype.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Work } from './op.ts';
import { OPS } from './ops/registry.ts';
import type { Node, Program, Value } from './program.ts';

/** Work of one node. Bytes are what it must move at least once, each tensor counted whole. */
export interface OpCost extends Work {
  readonly kind: string;
  /** Name of the stage that the node stands in; empty outside any. */
  readonly stage: string;
  /** Name of the node's first output, or of the first gradient where it has none. */
  readonly name: string;
  /** The part of `bytesRead` that is weights. */
  readonly weightBytes: number;
}

export interface ProgramCost {
  readonly total: Work;
  readonly byOp: readonly OpCost[];
}

/** One byte for a quantised activation. */
const ACTIVATION = { levels: 128, bytes: 1 } as const;

/**
 * Multiply-adds and bytes of a Program for one batch size and length, from shapes and codecs alone.
 * Attention with a mask counts the pairs inside the blocks that the mask keeps; lengths shorter than N
 * are not known here, so that this is the work of a full batch.
 * @throws `DIM_UNBOUND` when a symbol has no binding, `OP_UNKNOWN` for a kind that is not registered
 */
export function cost(program: Program, bindings: Bindings): ProgramCost {
  const byOp = program.nodes.map((node, index): OpCost => {
    const stage = program.stages.find((s) => index >= s.from && index < s.to)?.name ?? '';
    const weightBytes = weightBytesOf(node, bindings);
    return {
      kind: node.kind,
      stage,
      name: node.outputs[0]?.name ?? `gradient of ${node.gradients?.[0].name ?? 'nothing'}`,
      multiplyAdds: multiplyAddsOf(node, bindings),
      bytesRead: weightBytes + inputBytes(node, bindings),
      bytesWritten:
        node.outputs.reduce((sum, v) => sum + bytesOf(v, bindings), 0) +
        (node.gradients ?? []).reduce((sum, p) => sum + byteSize(p), 0),
      weightBytes,
    };
  });
  const sum = (field: keyof Work) => byOp.reduce((total, op) => total + op[field], 0);
  const total = {
    multiplyAdds: sum('multiplyAdds'),
    bytesRead: sum('bytesRead'),
    bytesWritten: sum('bytesWritten'),
  };
  return { total, byOp };
}

const shapeOf = (value: Value, bindings: Bindings): number[] =>
  value.shape.map((d) => evaluateDim(d, bindings));

const elementsOf = (value: Value, bindings: Bindings): number =>
  shapeOf(value, bindings).reduce((n, d) => n * d, 1);

const bytesOf = (value: Value, bindings: Bindings): number =>
  elementsOf(value, bindings) * byteWidth(value.dtype, ACTIVATION);

function multiplyAddsOf(node: Node, bindings: Bindings): number {
  const op = OPS.get(node.kind);
  if (!op)
    throw new AttenuateError(
      'OP_UNKNOWN',
      `[cost] op of unknown work: expected one of ${[...OPS.keys()].join(', ')}, got ${node.kind}. Register the op.`,
      { kind: node.kind },
    );
  return op.multiplyAdds(node, {
    inputs: node.inputs.map((v) => shapeOf(v, bindings)),
    outputs: node.outputs.map((v) => shapeOf(v, bindings)),
    bindings,
  });
}

function inputBytes(node: Node, bindings: Bindings): number {
  // Only the rows that are picked are read.
  if (node.kind === 'selectRows')
    return bytesOf(node.outputs[0], bindings) + bytesOf(node.inputs[1], bindings);
  return node.inputs.reduce((sum, v) => sum + bytesOf(v, bindings), 0);
}

function weightBytesOf(node: Node, bindings: Bindings): number {
  if (node.kind !== 'embedding') return node.parameters.reduce((sum, p) => sum + byteSize(p), 0);
  // One row of each table for each token.
  const tokens = elementsOf(node.inputs[0], bindings);
  return node.parameters.reduce((sum, p) => sum + tokens * byteSize({ ...p, shape: [1, p.shape[1]] }), 0);
}
