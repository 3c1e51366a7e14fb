import { type Dim, dim, formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { type Activation, activate } from './activation.ts';
import { quantizeRows } from './quantize-rows.ts';

/** Output laid out by head, `[heads, B, N, padded]`: attention then reads each head contiguously. */
export interface HeadLayout {
  /** Rows of the weights that make a head; the weights may hold different numbers of heads. */
  readonly size: number;
  /** `size` rounded up to a multiple of 8; the extra columns are 0. */
  readonly padded: number;
}

export interface LinearAttributes {
  readonly activation: Activation;
  readonly residual: boolean;
  readonly quantized: boolean;
  /** Number of weights whose rows are stacked: parameters are the weights, then as many biases. */
  readonly parts: number;
  readonly heads: HeadLayout | null;
}
export type LinearNode = Node<'linear', LinearAttributes>;

export interface LinearOptions {
  activation?: Activation;
  residual?: Value;
  heads?: { size: number };
}

export const padHead = (size: number): number => (size + 7) & ~7;

/**
 * `y = activation(x Wᵀ + b) + residual`, with x `[…, K]` and W `[C, K]`; several weights are stacked by rows.
 * A weight stored as int8 takes x through dynamic row quantisation and an integer product.
 */
export function linear(
  t: Tracer,
  x: Value,
  weights: readonly Parameter[],
  biases: readonly Parameter[],
  options: LinearOptions = {},
): Value {
  const columns = x.shape.at(-1)!;
  let rows = 0;
  if (weights.length === 0 || biases.length !== weights.length)
    throw shapeError(
      'linear',
      'weights without a bias each',
      'as many biases as weights, at least one',
      `${weights.length} weights and ${biases.length} biases`,
    );
  weights.forEach((w, i) => {
    expectFloat('linear', biases[i]);
    if (w.shape.length !== 2 || formatShape([columns]) !== formatShape([w.shape[1]]))
      throw shapeError(
        'linear',
        `weight ${w.name} does not fit its input`,
        `[C, ${formatShape([columns]).slice(1, -1)}]`,
        formatShape(w.shape),
      );
    if (biases[i].shape.length !== 1 || biases[i].shape[0] !== w.shape[0])
      throw shapeError(
        'linear',
        `bias ${biases[i].name} does not fit its weight`,
        `[${w.shape[0]}]`,
        formatShape(biases[i].shape),
      );
    if ((w.codec === 'int8') !== (weights[0].codec === 'int8'))
      throw shapeError('linear', 'stacked weights of different codecs', weights[0].codec, w.codec);
    rows += w.shape[0];
  });
  const quantized = weights[0].codec === 'int8';
  const lead = x.shape.slice(0, -1);
  let heads: HeadLayout | null = null;
  let shape: readonly Dim[] = [...lead, dim(rows)];
  if (options.heads) {
    const { size } = options.heads;
    for (const w of weights)
      if (w.shape[0] % size !== 0)
        throw shapeError(
          'linear',
          `rows of ${w.name} do not split into heads`,
          `a multiple of ${size}`,
          `${w.shape[0]}`,
        );
    heads = { size, padded: padHead(size) };
    shape = [dim(rows / size), ...lead, dim(heads.padded)];
  }
  if (options.residual && formatShape(options.residual.shape) !== formatShape(shape))
    throw shapeError(
      'linear',
      'residual does not fit the output',
      formatShape(shape),
      formatShape(options.residual.shape),
    );
  const inputs = quantized ? [...quantizeRows(t, x)] : [x];
  if (options.residual) inputs.push(options.residual);
  return t.emit('linear', {
    inputs,
    parameters: [...weights, ...biases],
    outputs: [['y', 'float32', shape]],
    attributes: {
      activation: options.activation ?? 'none',
      residual: !!options.residual,
      quantized,
      parts: weights.length,
      heads,
    } satisfies LinearAttributes,
    rowWise: true,
  })[0];
}

export const linearOp: OpDefinition<LinearNode> = {
  kind: 'linear',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds(node, { inputs }) {
    const rows = inputs[0].slice(0, -1).reduce((a, b) => a * b, 1);
    return node.parameters
      .slice(0, node.attributes.parts)
      .reduce((sum, w) => sum + rows * w.shape[0] * w.shape[1], 0);
  },
  reference({ attributes, parameters: specs }, { inputs, parameters, outputShapes }) {
    const { parts, heads, quantized, activation, residual } = attributes;
    const K = specs[0].shape[1];
    const pitch = inputs[0].shape.at(-1)!;
    const M = inputs[0].data.length / pitch;
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const N = specs.slice(0, parts).reduce((n, w) => n + w.shape[0], 0);
    const codeSums = parameters.slice(0, parts).map(({ data, shape: [rows] }) =>
      Float64Array.from({ length: rows }, (_, n) => {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += data[n * K + k];
        return sum;
      }),
    );
    for (let m = 0; m < M; m++) {
      let column = 0;
      for (let p = 0; p < parts; p++) {
        const { data: w, scales } = parameters[p];
        for (let n = 0; n < specs[p].shape[0]; n++, column++) {
          let sum = 0;
          for (let k = 0; k < K; k++) sum += inputs[0].data[m * pitch + k] * w[n * K + k];
          if (quantized) {
            const [scale, offset] = [inputs[1].data[2 * m], inputs[1].data[2 * m + 1]];
            sum = scales![n] * (scale * sum - offset * codeSums[p][n]);
          }
          let y = activate(activation, sum + parameters[parts + p].data[n]);
          let at = m * N + column;
          if (heads) at = (Math.floor(column / heads.size) * M + m) * heads.padded + (column % heads.size);
          if (residual) y += inputs.at(-1)!.data[at];
          out[at] = y;
        }
      }
    }
    return [out];
  },
};
