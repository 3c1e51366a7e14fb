import { dim } from '../../tensor/dim.ts';
import type { OpDefinition } from '../op.ts';
import type { LayerNormNode } from '../ops/layer-norm.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type LayerNormGradientNode = Node<'layerNormGradient', { readonly epsilon: number }>;
export type LayerNormWeightGradientNode = Node<
  'layerNormWeightGradient',
  { readonly scale: boolean; readonly bias: boolean }
>;

/**
 * `dx = (g − mean(g) − x̂ · mean(g · x̂)) / σ` with g = dy · γ, and each row's mean and 1/σ, `[…, 2]`.
 */
export function layerNormGradient(
  t: Tracer,
  x: Value,
  dy: Value,
  scale: Parameter,
  epsilon: number,
): readonly [dx: Value, statistics: Value] {
  const [dx, statistics] = t.emit('layerNormGradient', {
    inputs: [x, dy],
    parameters: [scale],
    outputs: [
      ['dx', 'float32', x.shape],
      ['statistics', 'float32', [...x.shape.slice(0, -1), dim(2)]],
    ],
    attributes: { epsilon },
    rowWise: true,
  });
  return [dx, statistics];
}

/** Adds Σ dy · x̂ to the scale's gradient and Σ dy to the bias's. */
export function layerNormWeightGradient(
  t: Tracer,
  x: Value,
  dy: Value,
  statistics: Value,
  scale: Parameter | null,
  bias: Parameter | null,
): void {
  t.emit('layerNormWeightGradient', {
    inputs: [x, dy, statistics],
    parameters: [],
    outputs: [],
    attributes: { scale: !!scale, bias: !!bias },
    rowWise: false,
    gradients: [scale, bias].filter((p) => p !== null),
  });
}

export const layerNormGradientOp: OpDefinition<LayerNormGradientNode> = {
  kind: 'layerNormGradient',
  budget: { absolute: 2e-6, relative: 4e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 8,
  reference({ attributes }, { inputs: [x, dy], parameters: [scale] }) {
    const C = x.shape.at(-1)!;
    const dx = new Float64Array(x.data.length);
    const statistics = new Float64Array((x.data.length / C) * 2);
    for (let at = 0; at < dx.length; at += C) {
      const row = x.data.subarray(at, at + C);
      const mean = row.reduce((a, b) => a + b, 0) / C;
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / C;
      const inverse = 1 / Math.sqrt(variance + attributes.epsilon);
      const g = scale.data.map((s, c) => s * dy.data[at + c]);
      const hat = row.map((v) => (v - mean) * inverse);
      const meanG = g.reduce((a, b) => a + b, 0) / C;
      const meanGHat = g.reduce((a, b, c) => a + b * hat[c], 0) / C;
      for (let c = 0; c < C; c++) dx[at + c] = (g[c] - meanG - hat[c] * meanGHat) * inverse;
      statistics.set([mean, inverse], (at / C) * 2);
    }
    return [dx, statistics];
  },
};

export const layerNormWeightGradientOp: OpDefinition<LayerNormWeightGradientNode> = {
  kind: 'layerNormWeightGradient',
  budget: { absolute: 2e-6, relative: 4e-6 },
  multiplyAdds: (_node, { inputs: [x] }) => x.reduce((a, b) => a * b, 1) * 3,
  reference({ attributes }, { inputs: [x, dy, statistics] }) {
    const C = x.shape.at(-1)!;
    const [scale, bias] = [new Float64Array(C), new Float64Array(C)];
    for (let row = 0; row < x.data.length / C; row++) {
      const [mean, inverse] = statistics.data.subarray(2 * row, 2 * row + 2);
      for (let c = 0; c < C; c++) {
        const d = dy.data[row * C + c];
        scale[c] += d * (x.data[row * C + c] - mean) * inverse;
        bias[c] += d;
      }
    }
    return [...(attributes.scale ? [scale] : []), ...(attributes.bias ? [bias] : [])];
  },
};

export const layerNormRule = plainRule<LayerNormNode>(
  'layerNorm',
  (t, { attributes, parameters }, { inputs: [x], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    const [scale, bias] = parameters.map((p) => (trains(p) ? p : null));
    if (!sink.wants(0) && !scale && !bias) return;
    const [dx, statistics] = layerNormGradient(t, x, dy, parameters[0], attributes.epsilon);
    if (scale || bias) layerNormWeightGradient(t, x, dy, statistics, scale, bias);
    if (sink.wants(0)) sink.add(0, dx);
  },
);
