import { formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import { alibiSlopes, evaluateScore, mentions, type ScoreExpression } from '../score/expression.ts';
import type { Tracer } from '../trace.ts';
import {
  type AttentionAttributes,
  type AttentionNode,
  type AttentionOptions,
  type AttentionSources,
  attentionNode,
  attentionOp,
  attentionReference,
} from './attention.ts';

export interface ScoredAttentionOptions extends AttentionOptions {
  /** What softmax sees in place of a score; it comes before the mask. */
  readonly score: ScoreExpression;
  /** The leaf `table`: `[H, 2R + 1]`, read at the distance k − q clipped to ±R. */
  readonly table?: Parameter;
}

export interface ScoredAttentionAttributes extends AttentionAttributes {
  readonly score: ScoreExpression;
  /** Index of the parameter that holds the table, or null. */
  readonly table: number | null;
}
export type ScoredAttentionNode = Node<'scoredAttention', ScoredAttentionAttributes>;

/**
 * `attention` whose scores pass through an expression of score, distance and head first: softcaps (Gemma Team 2024),
 * ALiBi (Press et al. 2022), relative position biases (Shaw et al. 2018; Raffel et al. 2020). Sources, options and
 * outputs are those of `attention`; the row statistics are of the changed scores.
 * @throws `SHAPE_MISMATCH` for sources that do not belong together, or a table that is missing or of another shape
 */
export function scoredAttention(
  t: Tracer,
  sources: AttentionSources,
  { score, table, ...options }: ScoredAttentionOptions,
): Value[] {
  const node = attentionNode(sources, options);
  const expected = `[${options.heads}, 2R + 1]`;
  if (mentions(score, 'table') !== !!table)
    throw shapeError(
      'scoredAttention',
      'table and expression that do not belong together',
      table ? 'an expression that reads it' : expected,
      table ? 'one that does not' : 'no table',
    );
  if (table) {
    const [H, columns] = table.shape;
    if (table.shape.length !== 2 || H !== options.heads || columns % 2 !== 1)
      throw shapeError('scoredAttention', 'table of another shape', expected, formatShape(table.shape));
    expectFloat('scoredAttention', table);
  }
  return t.emit('scoredAttention', {
    ...node,
    parameters: table ? [...node.parameters, table] : node.parameters,
    attributes: {
      ...node.attributes,
      score,
      table: table ? node.parameters.length : null,
    } satisfies ScoredAttentionAttributes,
  });
}

export const scoredAttentionOp: OpDefinition<ScoredAttentionNode> = {
  kind: 'scoredAttention',
  /** A score of 50 is exact to 4e-6 in float32, and its exponential to as much of itself. */
  budget: { absolute: 4e-6, relative: 6e-6 },
  multiplyAdds: (node, context) => attentionOp.multiplyAdds(node as unknown as AttentionNode, context),
  reference({ attributes }, context) {
    const slopes = alibiSlopes(attributes.heads);
    const table = attributes.table === null ? null : context.parameters[attributes.table];
    const reach = table ? (table.shape[1] - 1) / 2 : 0;
    return attentionReference(attributes, context, (score, h, q, k) => {
      const distance = k - q;
      const column = Math.min(Math.max(distance, -reach), reach) + reach;
      return evaluateScore(attributes.score, {
        score,
        distance,
        slope: slopes[h],
        table: table ? table.data[h * (2 * reach + 1) + column] : 0,
      });
    });
  },
};
