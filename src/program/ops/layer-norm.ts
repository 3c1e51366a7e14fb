import { formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type LayerNormNode = Node<'layerNorm', { readonly epsilon: number }>;

/** `(x − mean) / √(variance + ε) · γ + β` over the last axis, population variance (Ba et al. 2016). */
export function layerNorm(t: Tracer, x: Value, scale: Parameter, bias: Parameter, epsilon: number): Value {
  for (const p of [scale, bias]) {
    expectFloat('layerNorm', p);
    if (formatShape(p.shape) !== formatShape([x.shape.at(-1)!]))
      throw shapeError(
        'layerNorm',
        `${p.name} does not fit its input`,
        formatShape([x.shape.at(-1)!]),
        formatShape(p.shape),
      );
  }
  return t.emit('layerNorm', {
    inputs: [x],
    parameters: [scale, bias],
    outputs: [['y', 'float32', x.shape]],
    attributes: { epsilon },
    rowWise: true,
  })[0];
}

export const layerNormOp: OpDefinition<LayerNormNode> = {
  kind: 'layerNorm',
  budget: { absolute: 2e-6, relative: 3e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 3,
  reference({ attributes }, { inputs, parameters }) {
    const C = inputs[0].shape.at(-1)!;
    const out = new Float64Array(inputs[0].data.length);
    for (let at = 0; at < out.length; at += C) {
      const row = inputs[0].data.subarray(at, at + C);
      const mean = row.reduce((a, b) => a + b, 0) / C;
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / C;
      for (let c = 0; c < C; c++)
        out[at + c] =
          ((row[c] - mean) / Math.sqrt(variance + attributes.epsilon)) * parameters[0].data[c] +
          parameters[1].data[c];
    }
    return [out];
  },
};
