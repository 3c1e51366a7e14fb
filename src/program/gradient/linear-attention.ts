import { dim } from '../../tensor/dim.ts';
import type { OpDefinition } from '../op.ts';
import { outputFeatures } from '../ops/feature-maps.ts';
import type { LinearAttentionNode } from '../ops/linear-attention.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { addHeads } from './add-heads.ts';
import { features } from './features.ts';
import { headProduct } from './head-product.ts';
import { plainRule } from './rule.ts';

export type WithOnesNode = Node<'withOnes', { readonly from: number; readonly size: number }>;
export type WithoutOnesNode = Node<'withoutOnes', { readonly size: number }>;
export type DivideByLastNode = Node<'divideByLast', { readonly size: number }>;
export type DivideByLastGradientNode = Node<'divideByLastGradient', { readonly size: number }>;

/** Columns of values with a one behind them. */
export const widened = (size: number): number => (size + 8) & ~7;

/** `[heads, B, N, D′]` of values with a one behind column D, `[heads, B, N, ⌈(D + 1)/8⌉·8]`. */
export function withOnes(t: Tracer, v: Value, from: number, heads: number, size: number): Value {
  return t.emit('withOnes', {
    inputs: [v],
    parameters: [],
    outputs: [['y', 'float32', [dim(heads), v.shape[1], v.shape[2], dim(widened(size))]]],
    attributes: { from, size },
    rowWise: false,
  })[0];
}

/** Columns 0 … D − 1 divided by column D, heads side by side: `[heads, B, N, …]` → `[B, N, heads · D]`; 0 for x / 0. */
export function divideByLast(t: Tracer, x: Value, heads: number, size: number): Value {
  return t.emit('divideByLast', {
    inputs: [x],
    parameters: [],
    outputs: [['o', 'float32', [x.shape[1], x.shape[2], dim(heads * size)]]],
    attributes: { size },
    rowWise: false,
  })[0];
}

/**
 * Attention by features, taken apart for training: φ(Q), φ(K), the state φ(K)ᵀ[V, 1], φ(Q) times the state, and a
 * division by the last column. No tensor grows as the square of the length.
 */
export function expandLinearAttention(
  t: Tracer,
  { attributes, parameters: [W] }: LinearAttentionNode,
  inputs: readonly Value[],
): Value[] {
  const { heads, headSize: D, map, queries, keys, values } = attributes;
  const lengths = attributes.lengths === null ? null : inputs[attributes.lengths];
  const count = outputFeatures(map, attributes.features);
  const side = ({ input, from }: typeof queries, ofKeys: boolean): Value => {
    const x = inputs[input];
    const [rows, columns] = [x.shape[2], dim(attributes.features)];
    const projected =
      W &&
      headProduct(t, { value: x, from }, { parameter: W, from: 0 }, { form: 'a·bᵀ', heads, rows, columns });
    const at = { map, from, size: D, projected: !!W, keys: ofKeys };
    return features(t, at, heads, x, projected ?? null, ofKeys ? lengths : null, count);
  };
  const [phiQ, phiK] = [side(queries, false), side(keys, true)];
  const ones = withOnes(t, inputs[values.input], values.from, heads, D);
  const all = (value: Value) => ({ value, from: 0 });
  const columns = widened(D);
  const state = headProduct(t, all(phiK), all(ones), { form: 'aᵀ·b', heads, rows: count, columns });
  const rows = phiQ.shape[2];
  const sums = headProduct(t, all(phiQ), all(state), { form: 'a·b', heads, rows, columns });
  return [divideByLast(t, sums, heads, D)];
}

export const withOnesRule = plainRule<WithOnesNode>(
  'withOnes',
  (t, { attributes: { from, size } }, { inputs: [v], gradients: [dy], sink }) => {
    if (!dy || !sink.wants(0)) return;
    const [part] = t.emit('withoutOnes', {
      inputs: [dy],
      parameters: [],
      outputs: [['y', 'float32', [...dy.shape.slice(0, -1), v.shape[3]]]],
      attributes: { size },
      rowWise: false,
    });
    sink.replace(0, addHeads(t, v.shape, sink.soFar(0), part, from));
  },
);

export const divideByLastRule = plainRule<DivideByLastNode>(
  'divideByLast',
  (t, { attributes }, { inputs: [x], outputs: [o], gradients: [dy], sink }) => {
    if (!dy || !sink.wants(0)) return;
    const [dx] = t.emit('divideByLastGradient', {
      inputs: [x, o, dy],
      parameters: [],
      outputs: [['dx', 'float32', x.shape]],
      attributes,
      rowWise: false,
    });
    sink.add(0, dx);
  },
);

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const withOnesOp: OpDefinition<WithOnesNode> = {
  kind: 'withOnes',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference({ attributes: { from, size: D } }, { inputs: [v], outputShapes: [[heads, B, N, W]] }) {
    const pitch = v.shape[3];
    const out = new Float64Array(heads * B * N * W);
    for (let row = 0; row < heads * B * N; row++) {
      const at = (from * B * N + row) * pitch;
      out.set(v.data.subarray(at, at + D), row * W);
      out[row * W + D] = 1;
    }
    return [out];
  },
};

export const withoutOnesOp: OpDefinition<WithoutOnesNode> = {
  kind: 'withoutOnes',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference({ attributes: { size: D } }, { inputs: [dy], outputShapes: [shape] }) {
    const [W, pitch] = [dy.shape[3], shape[3]];
    const out = new Float64Array(size(shape));
    for (let row = 0; row < out.length / pitch; row++)
      out.set(dy.data.subarray(row * W, row * W + D), row * pitch);
    return [out];
  },
};

/** Every row of every head: where it stands in `[heads, B, N, W]` and in `[B, N, heads · D]`. */
function eachRow(
  [heads, B, N, W]: readonly number[],
  D: number,
  visit: (byHead: number, joined: number) => void,
): void {
  for (let h = 0; h < heads; h++)
    for (let row = 0; row < B * N; row++) visit((h * B * N + row) * W, (row * heads + h) * D);
}

export const divideByLastOp: OpDefinition<DivideByLastNode> = {
  kind: 'divideByLast',
  budget: { absolute: 1e-6, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => size(outputs[0]),
  reference({ attributes: { size: D } }, { inputs: [x], outputShapes: [shape] }) {
    const out = new Float64Array(size(shape));
    eachRow(x.shape, D, (from, to) => {
      const last = x.data[from + D];
      if (last !== 0) for (let d = 0; d < D; d++) out[to + d] = x.data[from + d] / last;
    });
    return [out];
  },
};

export const divideByLastGradientOp: OpDefinition<DivideByLastGradientNode> = {
  kind: 'divideByLastGradient',
  budget: { absolute: 1e-6, relative: 2e-6 },
  multiplyAdds: (_node, { outputs }) => 2 * size(outputs[0]),
  reference({ attributes: { size: D } }, { inputs: [x, o, dy] }) {
    const dx = new Float64Array(x.data.length);
    eachRow(x.shape, D, (from, to) => {
      const last = x.data[from + D];
      if (last === 0) return;
      for (let d = 0; d < D; d++) {
        dx[from + d] = dy.data[to + d] / last;
        dx[from + D] -= (dy.data[to + d] * o.data[to + d]) / last;
      }
    });
    return [dx];
  },
};
