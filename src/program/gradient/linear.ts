import { dim, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import { activation } from '../ops/activation.ts';
import type { HeadLayout, LinearAttributes, LinearNode } from '../ops/linear.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { activationGradient } from './activation.ts';
import { add } from './add.ts';
import { again, type GradientRule, notDifferentiable } from './rule.ts';

export interface LinearInputGradientAttributes {
  readonly heads: HeadLayout | null;
  /** Whether a last input holds what other nodes have given x. */
  readonly added: boolean;
}
export type LinearInputGradientNode = Node<'linearInputGradient', LinearInputGradientAttributes>;

/** Rows of the stacked weight. */
export interface Piece {
  readonly first: number;
  readonly rows: number;
}
export interface LinearWeightGradientAttributes {
  readonly heads: HeadLayout | null;
  /** Which rows the gradients are of: those of weights, then those of biases. */
  readonly weights: readonly Piece[];
  readonly biases: readonly Piece[];
}
export type LinearWeightGradientNode = Node<'linearWeightGradient', LinearWeightGradientAttributes>;

/** `dx = dy W`, plus `soFar`: dy as the product gave y, rows of the stacked weights; dx as x. */
export function linearInputGradient(
  t: Tracer,
  dy: Value,
  weights: readonly Parameter[],
  heads: HeadLayout | null,
  soFar: Value | null,
): Value {
  const lead = heads ? dy.shape.slice(1, -1) : dy.shape.slice(0, -1);
  return t.emit('linearInputGradient', {
    inputs: soFar ? [dy, soFar] : [dy],
    parameters: weights,
    outputs: [['dx', 'float32', [...lead, dim(weights[0].shape[1])]]],
    attributes: { heads, added: !!soFar } satisfies LinearInputGradientAttributes,
    rowWise: heads === null,
  })[0];
}

/** Adds `dyᵀ x` to the weights' gradients and the sums of dy's columns to the biases'. */
export function linearWeightGradient(
  t: Tracer,
  dy: Value,
  x: Value,
  heads: HeadLayout | null,
  weights: readonly (readonly [Parameter, Piece])[],
  biases: readonly (readonly [Parameter, Piece])[],
): void {
  if (weights.some(([w]) => formatShape([w.shape[1]]) !== formatShape([x.shape.at(-1)!])))
    throw shapeError(
      'linearWeightGradient',
      'input of another width',
      `${weights[0][0].shape[1]}`,
      formatShape(x.shape),
    );
  t.emit('linearWeightGradient', {
    inputs: [dy, x],
    parameters: [],
    outputs: [],
    attributes: {
      heads,
      weights: weights.map(([, piece]) => piece),
      biases: biases.map(([, piece]) => piece),
    } satisfies LinearWeightGradientAttributes,
    rowWise: false,
    gradients: [...weights, ...biases].map(([parameter]) => parameter),
  });
}

/** Where column `column` of row `m` of dy stands. */
const place = (heads: HeadLayout | null, M: number, columns: number, m: number, column: number): number =>
  heads
    ? (Math.floor(column / heads.size) * M + m) * heads.padded + (column % heads.size)
    : m * columns + column;

export const linearInputGradientOp: OpDefinition<LinearInputGradientNode> = {
  kind: 'linearInputGradient',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds(node, { outputs }) {
    const rows = outputs[0].slice(0, -1).reduce((a, b) => a * b, 1);
    return node.parameters.reduce((sum, w) => sum + rows * w.shape[0] * w.shape[1], 0);
  },
  reference({ attributes: { heads, added } }, { inputs, parameters, outputShapes }) {
    const K = outputShapes[0].at(-1)!;
    const dx = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const M = dx.length / K;
    const columns = parameters.reduce((n, w) => n + w.shape[0], 0);
    for (let m = 0; m < M; m++) {
      let column = 0;
      for (const w of parameters)
        for (let n = 0; n < w.shape[0]; n++, column++) {
          const d = inputs[0].data[place(heads, M, columns, m, column)];
          for (let k = 0; k < K; k++) dx[m * K + k] += d * w.data[n * K + k];
        }
    }
    return [added ? dx.map((v, i) => v + inputs[1].data[i]) : dx];
  },
};

export const linearWeightGradientOp: OpDefinition<LinearWeightGradientNode> = {
  kind: 'linearWeightGradient',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds(node, { inputs: [, x] }) {
    const rows = x.slice(0, -1).reduce((a, b) => a * b, 1);
    return node.attributes.weights.reduce((sum, piece) => sum + rows * piece.rows * x.at(-1)!, 0);
  },
  reference({ attributes: { heads, weights, biases } }, { inputs: [dy, x] }) {
    const K = x.shape.at(-1)!;
    const M = x.data.length / K;
    const columns = dy.shape.at(-1)!;
    const at = (m: number, column: number) => dy.data[place(heads, M, columns, m, column)];
    return [
      ...weights.map(({ first, rows }) => {
        const dw = new Float64Array(rows * K);
        for (let m = 0; m < M; m++)
          for (let n = 0; n < rows; n++)
            for (let k = 0; k < K; k++) dw[n * K + k] += at(m, first + n) * x.data[m * K + k];
        return dw;
      }),
      ...biases.map(({ first, rows }) =>
        Float64Array.from({ length: rows }, (_, n) => {
          let sum = 0;
          for (let m = 0; m < M; m++) sum += at(m, first + n);
          return sum;
        }),
      ),
    ];
  },
};

export const linearRule: GradientRule<LinearNode> = {
  kind: 'linear',
  emit(t, node, inputs, trains) {
    const { attributes, parameters, outputs } = node;
    const { parts, heads, residual, quantized } = attributes;
    if (quantized) notDifferentiable('linear', 'whose weights are integer codes: trace with float32 weights');
    const [weights, biases] = [parameters.slice(0, parts), parameters.slice(parts)];
    const [x] = inputs;
    let u: Value;
    let y: Value;
    if (attributes.activation === 'none') [u] = [y] = again(t, node, inputs);
    else {
      // What the activation is taken of is needed again.
      const plain: LinearAttributes = { ...attributes, activation: 'none', residual: false };
      [u] = t.emit('linear', {
        inputs: [x],
        parameters,
        outputs: [['u', 'float32', outputs[0].shape]],
        attributes: plain,
        rowWise: true,
      });
      y = activation(t, u, attributes.activation);
      if (residual) y = add(t, y, inputs[1]);
    }
    return {
      outputs: [y],
      backward([dy], sink) {
        if (!dy) return;
        if (residual && sink.wants(1)) sink.add(1, dy);
        const du =
          attributes.activation === 'none' ? dy : activationGradient(t, u, dy, attributes.activation);
        const trained = (list: readonly Parameter[]) =>
          list.flatMap((p, i) => {
            const first = list.slice(0, i).reduce((n, { shape }) => n + shape[0], 0);
            return trains(p) ? [[p, { first, rows: p.shape[0] }] as const] : [];
          });
        const [w, b] = [trained(weights), trained(biases)];
        if (w.length + b.length) linearWeightGradient(t, du, x, heads, w, b);
        if (sink.wants(0)) sink.replace(0, linearInputGradient(t, du, weights, heads, sink.soFar(0)));
      },
    };
  },
};
