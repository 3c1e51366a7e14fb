import type { OpDefinition } from '../op.ts';
import {
  LEAST_SUM,
  type StoredAttentionAttributes,
  type StoredAttentionNode,
} from '../ops/stored-attention.ts';
import type { Node } from '../program.ts';
import { addHeads } from './add-heads.ts';
import { plainRule } from './rule.ts';

/**
 * Inputs: values, lengths, output, its gradient. With weights P = R² / ΣR²: dV = Pᵀ dO `[heads, B, N, D′]`, and
 * dR = 2R (dO Vᵀ − Σ dO·O) / ΣR², summed over sequences, where R is trained.
 */
export type StoredAttentionGradientNode = Node<'storedAttentionGradient', StoredAttentionAttributes>;

export const storedAttentionGradientOp: OpDefinition<StoredAttentionGradientNode> = {
  kind: 'storedAttentionGradient',
  budget: { absolute: 2e-6, relative: 1e-5 },
  multiplyAdds: ({ attributes: { heads, headSize } }, { inputs: [[, B, N]] }) =>
    2 * B * heads * N * N * headSize,
  reference(
    { attributes: { heads: H, headSize: D, from }, gradients },
    { inputs: [v, lengths, o, dO], parameters: [roots] },
  ) {
    const [, B, N, pitch] = v.shape;
    const most = roots.shape[1];
    const dV = new Float64Array(H * B * N * pitch);
    const dR = new Float64Array(roots.data.length);
    for (let b = 0; b < B; b++) {
      const n = Math.max(0, Math.min(N, lengths.data[b]));
      for (let h = 0; h < H; h++)
        for (let q = 0; q < N; q++) {
          const first = (h * most + q) * most;
          const row = roots.data.subarray(first, first + n);
          const sum = row.reduce((a, r) => a + r * r, 0);
          if (sum < LEAST_SUM) continue;
          const to = ((b * N + q) * H + h) * D;
          let along = 0;
          for (let d = 0; d < D; d++) along += dO.data[to + d] * o.data[to + d];
          for (let k = 0; k < n; k++) {
            const at = (((from + h) * B + b) * N + k) * pitch;
            let dP = 0;
            for (let d = 0; d < D; d++) {
              dP += dO.data[to + d] * v.data[at + d];
              dV[((h * B + b) * N + k) * pitch + d] += ((row[k] * row[k]) / sum) * dO.data[to + d];
            }
            dR[first + k] += (2 * row[k] * (dP - along)) / sum;
          }
        }
    }
    return gradients?.length ? [dV, dR] : [dV];
  },
};

export const storedAttentionRule = plainRule<StoredAttentionNode>(
  'storedAttention',
  (t, { attributes, parameters }, { inputs, outputs: [o], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    const [v, lengths] = inputs;
    const { heads, from } = attributes;
    const [dV] = t.emit('storedAttentionGradient', {
      inputs: [v, lengths, o, dy],
      parameters,
      outputs: [['dV', 'float32', [heads, ...v.shape.slice(1)]]],
      attributes,
      rowWise: false,
      gradients: parameters.filter(trains),
    });
    if (sink.wants(0)) sink.replace(0, addHeads(t, v.shape, sink.soFar(0), dV, from));
  },
);
