import type { OpDefinition } from '../op.ts';
import type { L2NormalizeNode, SoftmaxNode } from '../ops/normalize.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type L2NormalizeGradientNode = Node<'l2NormalizeGradient', Record<string, never>>;
export type SoftmaxGradientNode = Node<'softmaxGradient', Record<string, never>>;

/** `(dy − y · Σ dy·y) / ‖x‖` with y = x / ‖x‖; a row as short as the floor has dy / floor. */
export function l2NormalizeGradient(t: Tracer, x: Value, dy: Value): Value {
  return rows(t, 'l2NormalizeGradient', x, dy);
}

/** `y · (dy − Σ dy·y)`. */
export function softmaxGradient(t: Tracer, y: Value, dy: Value): Value {
  return rows(t, 'softmaxGradient', y, dy);
}

function rows(t: Tracer, kind: string, a: Value, dy: Value): Value {
  return t.emit(kind, {
    inputs: [a, dy],
    parameters: [],
    outputs: [['dx', 'float32', a.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

const NORM_FLOOR = 1e-12;

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, i) => sum + x * b[i], 0);

function byRow(
  [a, dy]: readonly { readonly data: Float64Array; readonly shape: readonly number[] }[],
  f: (row: Float64Array, d: Float64Array) => Float64Array,
): Float64Array {
  const columns = a.shape.at(-1)!;
  const out = new Float64Array(a.data.length);
  for (let at = 0; at < out.length; at += columns)
    out.set(f(a.data.subarray(at, at + columns), dy.data.subarray(at, at + columns)), at);
  return out;
}

export const l2NormalizeGradientOp: OpDefinition<L2NormalizeGradientNode> = {
  kind: 'l2NormalizeGradient',
  budget: { absolute: 1e-7, relative: 4e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 4,
  reference: (_node, { inputs }) => [
    byRow(inputs, (x, dy) => {
      const norm = Math.sqrt(dot(x, x));
      if (norm <= NORM_FLOOR) return dy.map((d) => d / NORM_FLOOR);
      const along = dot(x, dy) / norm ** 2;
      return dy.map((d, i) => (d - x[i] * along) / norm);
    }),
  ],
};

export const softmaxGradientOp: OpDefinition<SoftmaxGradientNode> = {
  kind: 'softmaxGradient',
  budget: { absolute: 1e-6, relative: 2e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 3,
  reference: (_node, { inputs }) => [
    byRow(inputs, (y, dy) => {
      const mean = dot(y, dy);
      return y.map((p, i) => p * (dy[i] - mean));
    }),
  ],
};

export const l2NormalizeRule = plainRule<L2NormalizeNode>(
  'l2Normalize',
  (t, _node, { inputs: [x], gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, l2NormalizeGradient(t, x, dy));
  },
);

export const softmaxRule = plainRule<SoftmaxNode>(
  'softmax',
  (t, _node, { outputs: [y], gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, softmaxGradient(t, y, dy));
  },
);
