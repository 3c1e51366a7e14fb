import type { AttentionNode } from '../../../program/ops/attention.ts';
import type { IntegerAttentionNode, IntegerPrecision } from '../../../program/ops/integer-attention.ts';
import { integerAttentionKernel } from '../kernels/integer-attention.ts';
import {
  type IntegerAttentionVariant,
  integerAttentionScratch,
} from '../kernels/integer-attention-scratch.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';
import { attentionFields, keysOf } from './attention.ts';

const keyOf = ({ attributes: { precision, keySize, headSize, blocks } }: IntegerAttentionNode): string =>
  `integerAttention:${precision}:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

function variantOf(text: string): IntegerAttentionVariant {
  const [precision, ...sizes] = text.split(':');
  const [keySize, headSize, query, key] = sizes.map(Number);
  return { precision: precision as IntegerPrecision, keySize, headSize, blocks: { query, key } };
}

/** Integer and float attention have the same sources. */
const asAttention = (node: IntegerAttentionNode) => node as unknown as AttentionNode;

export const integerAttentionLowering: OpLowering<IntegerAttentionNode> = {
  kind: 'integerAttention',
  kernels: { integerAttention: (variant) => integerAttentionKernel(variantOf(variant)) as unknown as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: (node, shape, features) =>
    integerAttentionScratch(keysOf(asAttention(node), shape), node.attributes, features),
  steps(node, lowering) {
    const { statistics: _, ...fields } = attentionFields(asAttention(node), lowering);
    return [lowering.step(keyOf(node), fields, fields.B * fields.H, 1)];
  },
};
