import { dim, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type MeanRowsNode = Node<'meanRows', Record<string, never>>;
export type MeanRowsGradientNode = Node<'meanRowsGradient', Record<string, never>>;
export type WeightedSumNode = Node<'weightedSum', { readonly weights: readonly number[] }>;

/** Σ weight · loss / Σ weight over rows `[…, 2]`, and 1 / Σ weight: both `[1]`, both 0 where no row counts. */
export function meanRows(t: Tracer, rows: Value): Value {
  return t.emit('meanRows', {
    inputs: [rows],
    parameters: [],
    outputs: [
      ['mean', 'float32', [dim(1)]],
      ['inverse', 'float32', [dim(1)]],
    ],
    attributes: {},
    rowWise: false,
  })[0];
}

function meanRowsGradient(t: Tracer, rows: Value, inverse: Value, d: Value): Value {
  return t.emit('meanRowsGradient', {
    inputs: [inverse, d],
    parameters: [],
    outputs: [['dRows', 'float32', rows.shape]],
    attributes: {},
    rowWise: false,
  })[0];
}

/** Σ weights[i] · losses[i], each `[1]`. */
export function weightedSum(t: Tracer, losses: readonly Value[], weights: readonly number[]): Value {
  for (const { shape } of losses)
    if (formatShape(shape) !== '[1]')
      throw shapeError('weightedSum', 'loss of more than one element', '[1]', formatShape(shape));
  return t.emit('weightedSum', {
    inputs: losses,
    parameters: [],
    outputs: [['sum', 'float32', [dim(1)]]],
    attributes: { weights },
    rowWise: false,
  })[0];
}

export const meanRowsOp: OpDefinition<MeanRowsNode> = {
  kind: 'meanRows',
  budget: { absolute: 1e-7, relative: 2e-6 },
  multiplyAdds: (_node, { inputs: [rows] }) => rows.reduce((a, b) => a * b, 1),
  reference(_node, { inputs: [rows] }) {
    let [sum, weight] = [0, 0];
    for (let i = 0; i < rows.data.length; i += 2) {
      sum += rows.data[i];
      weight += rows.data[i + 1];
    }
    return [Float64Array.of(weight ? sum / weight : 0), Float64Array.of(weight ? 1 / weight : 0)];
  },
};

export const meanRowsGradientOp: OpDefinition<MeanRowsGradientNode> = {
  kind: 'meanRowsGradient',
  budget: { absolute: 0, relative: 1e-6 },
  multiplyAdds: (_node, { outputs: [rows] }) => rows.reduce((a, b) => a * b, 1) / 2,
  reference(_node, { inputs: [inverse, d], outputShapes }) {
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    for (let i = 0; i < out.length; i += 2) out[i] = inverse.data[0] * d.data[0];
    return [out];
  },
};

export const weightedSumOp: OpDefinition<WeightedSumNode> = {
  kind: 'weightedSum',
  budget: { absolute: 1e-7, relative: 1e-6 },
  multiplyAdds: ({ inputs }) => inputs.length,
  reference: ({ attributes: { weights } }, { inputs }) => [
    Float64Array.of(inputs.reduce((sum, { data }, i) => sum + weights[i] * data[0], 0)),
  ],
};

export const meanRowsRule = plainRule<MeanRowsNode>(
  'meanRows',
  (t, _node, { inputs: [rows], outputs: [, inverse], gradients: [d], sink }) => {
    if (d && sink.wants(0)) sink.add(0, meanRowsGradient(t, rows, inverse, d));
  },
);

export const weightedSumRule = plainRule<WeightedSumNode>(
  'weightedSum',
  (t, { attributes: { weights } }, { inputs, gradients: [d], sink }) => {
    if (!d) return;
    inputs.forEach((_, i) => {
      if (sink.wants(i)) sink.add(i, weightedSum(t, [d], [weights[i]]));
    });
  },
);
