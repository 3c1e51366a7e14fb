import { type Dim, evaluateDim } from '../../tensor/dim.ts';
import type { OpDefinition } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type AddHeadsNode = Node<
  'addHeads',
  {
    readonly from: number;
    /** Whether a second input holds what is added to; without it that is 0. */
    readonly added: boolean;
  }
>;
export type MaskRowsNode = Node<'maskRows', { readonly from: number }>;

/** `part` `[h, B, …]` as heads `from` … of a tensor of this shape, plus `soFar`: how a gradient of some heads is one of all. */
export function addHeads(
  t: Tracer,
  shape: readonly Dim[],
  soFar: Value | null,
  part: Value,
  from: number,
): Value {
  return t.emit('addHeads', {
    inputs: soFar ? [part, soFar] : [part],
    parameters: [],
    outputs: [['y', 'float32', shape]],
    attributes: { from, added: !!soFar },
    rowWise: false,
  })[0];
}

/** Heads `from` … of x `[…, B, N, W]`, rows from `lengths[b]` on replaced by 0. */
export function maskRows(t: Tracer, x: Value, from: number, heads: number, lengths: Value): Value {
  return t.emit('maskRows', {
    inputs: [x, lengths],
    parameters: [],
    outputs: [['y', 'float32', [heads, ...x.shape.slice(1)]]],
    attributes: { from },
    rowWise: false,
  })[0];
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const addHeadsOp: OpDefinition<AddHeadsNode> = {
  kind: 'addHeads',
  budget: { absolute: 0, relative: 1e-7 },
  multiplyAdds: (_node, { outputs }) => product(outputs[0]),
  reference({ attributes: { from, added } }, { inputs: [part, soFar], outputShapes: [shape] }) {
    const out = added ? soFar.data.slice() : new Float64Array(product(shape));
    const first = from * product(shape.slice(1));
    part.data.forEach((x, i) => {
      out[first + i] += x;
    });
    return [out];
  },
};

export const maskRowsOp: OpDefinition<MaskRowsNode> = {
  kind: 'maskRows',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference({ attributes: { from } }, { inputs: [x, lengths], outputShapes: [[heads, B, N, W]] }) {
    const out = x.data.slice(from * B * N * W, (from + heads) * B * N * W);
    for (let row = 0; row < heads * B * N; row++)
      if (row % N >= lengths.data[Math.floor(row / N) % B]) out.fill(0, row * W, (row + 1) * W);
    return [out];
  },
};

export const maskRowsRule = plainRule<MaskRowsNode>(
  'maskRows',
  (t, { attributes: { from } }, { inputs: [x, lengths], gradients: [dy], sink }) => {
    if (!dy || !sink.wants(0)) return;
    const part = maskRows(t, dy, 0, evaluateDim(dy.shape[0], {}), lengths);
    sink.replace(0, addHeads(t, x.shape, sink.soFar(0), part, from));
  },
);
