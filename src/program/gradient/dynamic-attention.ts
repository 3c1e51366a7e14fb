import type { OpDefinition } from '../op.ts';
import {
  type DynamicAttentionAttributes,
  type DynamicAttentionNode,
  dynamicAttentionOp,
  keptByLists,
} from '../ops/dynamic-attention.ts';
import type { Node } from '../program.ts';
import {
  type AttentionGradientAttributes,
  attentionGradientNode,
  attentionGradientReference,
  attentionLikeRule,
} from './attention.ts';

/** As `attentionGradient`, over the blocks of lists made at run time. The choice of blocks has no gradient. */
export type DynamicAttentionGradientNode = Node<
  'dynamicAttentionGradient',
  AttentionGradientAttributes & Pick<DynamicAttentionAttributes, 'lists' | 'entries'>
>;

export const dynamicAttentionRule = attentionLikeRule<DynamicAttentionNode>(
  'dynamicAttention',
  (t, node, flow) =>
    t.emit('dynamicAttentionGradient', {
      ...attentionGradientNode(node, flow),
      attributes: { ...node.attributes, ...attentionGradientNode(node, flow).attributes },
    }),
);

export const dynamicAttentionGradientOp: OpDefinition<DynamicAttentionGradientNode> = {
  kind: 'dynamicAttentionGradient',
  budget: { absolute: 4e-6, relative: 1e-5 },
  multiplyAdds: (node, context) =>
    2.5 * dynamicAttentionOp.multiplyAdds(node as unknown as DynamicAttentionNode, context),
  reference: (node, context) =>
    attentionGradientReference(node, context, undefined, keptByLists(node.attributes, context)),
};
