import { type OpDefinition, shapeError } from '../op.ts';
import type { EmbeddingNode } from '../ops/embedding.ts';
import type { Pooling, PoolNode } from '../ops/pool.ts';
import type { SelectRowsNode } from '../ops/select-rows.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export interface ScatterRowsAttributes {
  /** Row r of dy is added to row `indices[r]`, or to r mod `rows` of its sequence where there are no indices. */
  readonly indexed: boolean;
  readonly factor: number;
}
export type ScatterRowsNode = Node<'scatterRows', ScatterRowsAttributes>;
export type PoolGradientNode = Node<'poolGradient', { readonly pooling: Pooling }>;
export type SelectRowsGradientNode = Node<'selectRowsGradient', Record<string, never>>;

/**
 * Adds `factor` · rows of dy `[B, N, C]` to the gradient of a table `[rows, C]`: to the rows that `indices` `[B, N]`
 * name, or without them to that of each position, n mod rows.
 */
export function scatterRows(
  t: Tracer,
  dy: Value,
  indices: Value | null,
  table: Parameter,
  factor: number,
): void {
  t.emit('scatterRows', {
    inputs: indices ? [dy, indices] : [dy],
    parameters: [],
    outputs: [],
    attributes: { indexed: !!indices, factor } satisfies ScatterRowsAttributes,
    rowWise: false,
    gradients: [table],
  });
}

/** Gradient of `pool`: dy `[B, C]` to each row that it was made of; of equal largest values, to the first. */
export function poolGradient(t: Tracer, x: Value, lengths: Value, dy: Value, pooling: Pooling): Value {
  if (dy.shape.length !== 2)
    throw shapeError('poolGradient', 'gradient of another rank', '2', `${dy.shape.length}`);
  return t.emit('poolGradient', {
    inputs: [x, lengths, dy],
    parameters: [],
    outputs: [['dx', 'float32', x.shape]],
    attributes: { pooling },
    rowWise: false,
  })[0];
}

/** Gradient of `selectRows`: dy `[B, P, C]` summed into zeros of x's shape. */
export function selectRowsGradient(t: Tracer, x: Value, rows: Value, dy: Value): Value {
  return t.emit('selectRowsGradient', {
    inputs: [dy, rows],
    parameters: [],
    outputs: [['dx', 'float32', x.shape]],
    attributes: {},
    rowWise: false,
  })[0];
}

export const scatterRowsOp: OpDefinition<ScatterRowsNode> = {
  kind: 'scatterRows',
  budget: { absolute: 1e-7, relative: 2e-6 },
  multiplyAdds: (_node, { inputs: [dy] }) => dy.reduce((a, b) => a * b, 1),
  reference({ attributes, gradients }, { inputs: [dy, indices] }) {
    const [rows, C] = gradients![0].shape;
    const N = dy.shape.at(-2)!;
    const out = new Float64Array(rows * C);
    for (let r = 0; r < dy.data.length / C; r++) {
      const to = (attributes.indexed ? indices.data[r] : (r % N) % rows) * C;
      for (let c = 0; c < C; c++) out[to + c] += attributes.factor * dy.data[r * C + c];
    }
    return [out];
  },
};

export const poolGradientOp: OpDefinition<PoolGradientNode> = {
  kind: 'poolGradient',
  budget: { absolute: 1e-7, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference({ attributes: { pooling } }, { inputs: [x, lengths, dy] }) {
    const [B, N, C] = x.shape;
    const dx = new Float64Array(x.data.length);
    for (let b = 0; b < B; b++) {
      const rows = Math.max(0, Math.min(lengths.data[b], pooling === 'first' ? 1 : N));
      const divisor = pooling === 'sqrtMean' ? Math.sqrt(rows) : rows;
      for (let c = 0; c < C; c++) {
        const at = (n: number) => (b * N + n) * C + c;
        const d = dy.data[b * C + c];
        if (pooling !== 'max') for (let n = 0; n < rows; n++) dx[at(n)] = d / divisor;
        else if (rows > 0) {
          let best = 0;
          for (let n = 1; n < rows; n++) if (x.data[at(n)] > x.data[at(best)]) best = n;
          dx[at(best)] = d;
        }
      }
    }
    return [dx];
  },
};

export const selectRowsGradientOp: OpDefinition<SelectRowsGradientNode> = {
  kind: 'selectRowsGradient',
  budget: { absolute: 1e-7, relative: 1e-6 },
  multiplyAdds: (_node, { inputs: [dy] }) => dy.reduce((a, b) => a * b, 1),
  reference(_node, { inputs: [dy, rows], outputShapes }) {
    const [, P, C] = dy.shape;
    const N = outputShapes[0][1];
    const dx = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    for (let r = 0; r < rows.data.length; r++)
      for (let c = 0; c < C; c++) dx[(Math.floor(r / P) * N + rows.data[r]) * C + c] += dy.data[r * C + c];
    return [dx];
  },
};

export const embeddingRule = plainRule<EmbeddingNode>(
  'embedding',
  (t, { attributes, parameters }, { inputs: [ids, types], gradients: [dy], trains }) => {
    if (!dy) return;
    const [word] = parameters;
    const position = attributes.positions ? parameters[1] : null;
    const type = attributes.tokenTypes ? parameters.at(-1)! : null;
    if (trains(word)) scatterRows(t, dy, ids, word, attributes.wordScale);
    if (position && trains(position)) scatterRows(t, dy, null, position, 1);
    if (type && trains(type)) scatterRows(t, dy, types, type, 1);
  },
);

export const poolRule = plainRule<PoolNode>(
  'pool',
  (t, { attributes }, { inputs: [x, lengths], gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, poolGradient(t, x, lengths, dy, attributes.pooling));
  },
);

export const selectRowsRule = plainRule<SelectRowsNode>(
  'selectRows',
  (t, _node, { inputs: [x, rows], gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, selectRowsGradient(t, x, rows, dy));
  },
);
