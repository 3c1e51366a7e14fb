import type { RowAttentionNode } from '../../../program/ops/row-attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { rowAttentionKernel, rowAttentionScratch } from '../kernels/row-attention.ts';
import type { NormalizerKind } from '../kernels/row-normalizers.ts';
import type { OpLowering } from '../lowering.ts';
import { attentionFields, keysOf, variantOf } from './attention.ts';

const keyOf = ({ keySize, headSize, blocks, normalizer }: RowAttentionNode['attributes']): string =>
  `rowAttention:${normalizer.kind}:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

function kernelOf(text: string): Kernel {
  const [normalizer, ...rest] = text.split(':');
  const variant = variantOf(rest.join(':'));
  return rowAttentionKernel({ ...variant, normalizer: normalizer as NormalizerKind }) as unknown as Kernel;
}

export const rowAttentionLowering: OpLowering<RowAttentionNode> = {
  kind: 'rowAttention',
  kernels: { rowAttention: kernelOf },
  keys: ({ attributes }) => [keyOf(attributes)],
  scratchBytes: (node, shape) => rowAttentionScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const { normalizer } = node.attributes;
    const fields = {
      ...attentionFields(node, lowering),
      support: lowering.at(node.outputs[1]),
      limit: normalizer.kind === 'topK' ? normalizer.k : 0,
    };
    return [lowering.step(keyOf(node.attributes), fields, fields.B * fields.H, 1)];
  },
};
