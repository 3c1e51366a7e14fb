import type { OpDefinition } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type L2NormalizeNode = Node<'l2Normalize', Record<string, never>>;
export type SoftmaxNode = Node<'softmax', Record<string, never>>;

const NORM_FLOOR = 1e-12;

/** Rows scaled to length 1: `x / max(‖x‖₂, 1e-12)`. */
export function l2Normalize(t: Tracer, x: Value): Value {
  return t.emit('l2Normalize', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', x.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

/** Softmax over the last axis, the row maximum subtracted first. */
export function softmax(t: Tracer, x: Value): Value {
  return t.emit('softmax', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', x.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

export const l2NormalizeOp: OpDefinition<L2NormalizeNode> = {
  kind: 'l2Normalize',
  budget: { absolute: 1e-7, relative: 2e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 2,
  reference: (_node, { inputs }) => [
    byRow(inputs[0].data, inputs[0].shape.at(-1)!, (row) => {
      const norm = Math.max(Math.sqrt(row.reduce((a, x) => a + x * x, 0)), NORM_FLOOR);
      return row.map((x) => x / norm);
    }),
  ],
};

export const softmaxOp: OpDefinition<SoftmaxNode> = {
  kind: 'softmax',
  budget: { absolute: 1e-6, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 8,
  reference: (_node, { inputs }) => [
    byRow(inputs[0].data, inputs[0].shape.at(-1)!, (row) => {
      const largest = row.reduce((a, x) => Math.max(a, x), -Infinity);
      const powers = row.map((x) => Math.exp(x - largest));
      const sum = powers.reduce((a, x) => a + x, 0);
      return powers.map((x) => x / sum);
    }),
  ],
};

function byRow(data: Float64Array, columns: number, f: (row: Float64Array) => Float64Array): Float64Array {
  const out = new Float64Array(data.length);
  for (let at = 0; at < data.length; at += columns) out.set(f(data.subarray(at, at + columns)), at);
  return out;
}
