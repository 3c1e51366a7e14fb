import type { OpDefinition } from '../op.ts';
import {
  type Normalizer,
  normalizeRow,
  type RowAttentionAttributes,
  type RowAttentionNode,
  rowAttentionOp,
} from '../ops/row-attention.ts';
import type { Node } from '../program.ts';
import {
  type AttentionGradientAttributes,
  attentionGradientNode,
  attentionGradientReference,
  expectApart,
  sourcesOf,
} from './attention.ts';
import { plainRule } from './rule.ts';

/** As `attentionGradient`, with rows normalised anew; in place of row statistics it is given the support. */
export type RowAttentionGradientNode = Node<
  'rowAttentionGradient',
  AttentionGradientAttributes & Pick<RowAttentionAttributes, 'normalizer'>
>;

/** How many keys a row reads has no gradient. */
export const rowAttentionRule = plainRule<RowAttentionNode>(
  'rowAttention',
  (t, node, { inputs, outputs, gradients: [dy], sink, trains }) => {
    if (!dy) return;
    expectApart(node);
    const base = attentionGradientNode(node, { inputs, outputs, dy, dStatistics: null, trains });
    const { normalizer } = node.attributes;
    const sources = sourcesOf(node.attributes);
    t.emit('rowAttentionGradient', { ...base, attributes: { ...base.attributes, normalizer } }).forEach(
      (d, i) => {
        if (sink.wants(sources[i])) sink.add(sources[i], d);
      },
    );
  },
);

/**
 * Weights p of a row, and the s of dz = s ∘ (g − Σ s·g / Σ s): p itself for the softmax of the largest, 1 where p > 0
 * for sparsemax (Martins and Astudillo 2016, section 2.4), √p for entmax 1.5 (Peters, Niculae and Martins 2019,
 * proposition 2).
 */
function weigh(scores: readonly number[], normalizer: Normalizer) {
  if (scores.length === 0) return { weights: scores, factors: scores };
  const weights = normalizeRow(Float64Array.from(scores), normalizer);
  const factor = {
    topK: (p: number) => p,
    sparsemax: (p: number) => (p === 0 ? 0 : 1),
    entmax15: Math.sqrt,
  }[normalizer.kind];
  return { weights, factors: weights.map((p) => factor(p)) };
}

export const rowAttentionGradientOp: OpDefinition<RowAttentionGradientNode> = {
  kind: 'rowAttentionGradient',
  budget: { absolute: 4e-6, relative: 1e-5 },
  multiplyAdds: (node, context) =>
    2.5 * rowAttentionOp.multiplyAdds(node as unknown as RowAttentionNode, context),
  reference: (node, context) =>
    attentionGradientReference(node, context, {
      modify: (s) => s,
      slope: () => 1,
      weigh: (scores) => weigh(scores, node.attributes.normalizer),
    }),
};
