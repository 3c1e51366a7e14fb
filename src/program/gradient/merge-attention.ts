import type { OpDefinition } from '../op.ts';
import type { MergeAttentionAttributes, MergeAttentionNode } from '../ops/merge-attention.ts';
import type { Node } from '../program.ts';
import { plainRule } from './rule.ts';

/** Inputs: those of the merge, its output, the output's gradient. Outputs: a gradient of each part's output and statistics. */
export type MergeAttentionGradientNode = Node<'mergeAttentionGradient', MergeAttentionAttributes>;

/**
 * A part's weight w = exp(log-sum-exp) / Σ: its output has w · dy, its log-sum-exp Σ dy · w · (its output − the merged),
 * which is the gradient of the largest score too; that of the sum is 1/sum of it.
 */
export const mergeAttentionGradientOp: OpDefinition<MergeAttentionGradientNode> = {
  kind: 'mergeAttentionGradient',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds: (_node, { outputs: [o] }) => 6 * o.reduce((a, b) => a * b, 1),
  reference({ attributes: { heads } }, { inputs: [oa, sa, ob, sb, o, dy] }) {
    const [B, N, C] = oa.shape;
    const D = C / heads;
    const outs = [oa, sa, ob, sb].map(({ data }) => new Float64Array(data.length));
    for (let h = 0; h < heads; h++)
      for (let row = 0; row < B * N; row++) {
        const at = (h * B * N + row) * 2;
        const largest = Math.max(sa.data[at], sb.data[at]);
        const of = (s: Float64Array) => (s[at + 1] > 0 ? s[at + 1] * Math.exp(s[at] - largest) : 0);
        const sums = [of(sa.data), of(sb.data)];
        const all = sums[0] + sums[1];
        if (!(all > 0)) continue;
        [oa, ob].forEach((part, p) => {
          for (let d = 0; d < D; d++) {
            const i = row * C + h * D + d;
            const share = (sums[p] / all) * dy.data[i];
            outs[2 * p][i] = share;
            outs[2 * p + 1][at] += share * (part.data[i] - o.data[i]);
          }
          const sum = [sa, sb][p].data[at + 1];
          outs[2 * p + 1][at + 1] = sum > 0 ? outs[2 * p + 1][at] / sum : 0;
        });
      }
    return outs;
  },
};

export const mergeAttentionRule = plainRule<MergeAttentionNode>(
  'mergeAttention',
  (t, { attributes }, { inputs, outputs: [o], gradients: [dy], sink }) => {
    if (!dy) return;
    t.emit('mergeAttentionGradient', {
      inputs: [...inputs, o, dy],
      parameters: [],
      outputs: inputs.map((x, i) => [`d${i}`, 'float32', x.shape]),
      attributes,
      rowWise: false,
    }).forEach((d, i) => {
      if (sink.wants(i)) sink.add(i, d);
    });
  },
);
