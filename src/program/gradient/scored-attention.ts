import type { OpDefinition } from '../op.ts';
import {
  type ScoredAttentionAttributes,
  type ScoredAttentionNode,
  scoredAttentionOp,
} from '../ops/scored-attention.ts';
import type { Node } from '../program.ts';
import { derivative } from '../score/derivative.ts';
import { alibiSlopes, evaluateScore, type ScoreExpression } from '../score/expression.ts';
import {
  type AttentionGradientAttributes,
  attentionGradientNode,
  attentionGradientReference,
  attentionLikeRule,
} from './attention.ts';
import { notDifferentiable } from './rule.ts';

/** As `attentionGradient`, through an expression of the score. A trained table's gradient comes last. */
export type ScoredAttentionGradientNode = Node<
  'scoredAttentionGradient',
  AttentionGradientAttributes &
    Pick<ScoredAttentionAttributes, 'score' | 'table'> & {
      /** d score′ / d score. */
      readonly slope: ScoreExpression;
      /** d score′ / d table, the same for all pairs; null where the table is not trained. */
      readonly tableSlope: number | null;
    }
>;

export const scoredAttentionRule = attentionLikeRule<ScoredAttentionNode>(
  'scoredAttention',
  (t, node, flow) => {
    const { score, table } = node.attributes;
    const slope = derivative(score, 'score');
    if (!slope)
      notDifferentiable('scoredAttention', 'whose score passes through an absolute value or a bound');
    const base = attentionGradientNode(node, flow);
    const trained = table !== null && flow.trains(node.parameters[table]);
    const byTable = trained ? derivative(score, 'table') : null;
    if (trained && byTable?.op !== 'constant')
      notDifferentiable('scoredAttention', 'whose table is not simply added to the score');
    return t.emit('scoredAttentionGradient', {
      ...base,
      attributes: {
        ...base.attributes,
        score,
        table,
        slope: slope!,
        tableSlope: byTable?.op === 'constant' ? byTable.value : null,
      },
      gradients: trained ? [...base.gradients, node.parameters[table]] : base.gradients,
    });
  },
);

export const scoredAttentionGradientOp: OpDefinition<ScoredAttentionGradientNode> = {
  kind: 'scoredAttentionGradient',
  budget: { absolute: 8e-6, relative: 2e-5 },
  multiplyAdds: (node, context) =>
    2.5 * scoredAttentionOp.multiplyAdds(node as unknown as ScoredAttentionNode, context),
  reference(node, context) {
    const { attributes } = node;
    const slopes = alibiSlopes(attributes.heads);
    const table = attributes.table === null ? null : context.parameters[attributes.table];
    const reach = table ? (table.shape[1] - 1) / 2 : 0;
    const column = (h: number, q: number, k: number) =>
      h * (2 * reach + 1) + Math.min(Math.max(k - q, -reach), reach) + reach;
    const point = (score: number, h: number, q: number, k: number) => ({
      score,
      distance: k - q,
      slope: slopes[h],
      table: table ? table.data[column(h, q, k)] : 0,
    });
    const dTable = new Float64Array(table?.data.length ?? 0);
    const gradients = attentionGradientReference(node, context, {
      modify: (...at) => evaluateScore(attributes.score, point(...at)),
      slope: (...at) => evaluateScore(attributes.slope, point(...at)),
      give(d, _score, h, q, k) {
        if (attributes.tableSlope !== null) dTable[column(h, q, k)] += d * attributes.tableSlope;
      },
    });
    return attributes.tableSlope === null ? gradients : [...gradients, dTable];
  },
};
