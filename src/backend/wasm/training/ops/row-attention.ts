import type { RowAttentionGradientNode } from '../../../../program/gradient/row-attention.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import type { NormalizerKind } from '../../kernels/row-normalizers.ts';
import type { OpLowering } from '../../lowering.ts';
import { keysOf, variantOf } from '../../ops/attention.ts';
import { rowAttentionGradientKernel, rowAttentionGradientScratch } from '../kernels/row-attention.ts';
import { attentionGradientFields, clearOutputs } from './attention.ts';
import { clearKernels } from './clear.ts';

const keyOf = ({ keySize, headSize, blocks, normalizer }: RowAttentionGradientNode['attributes']): string =>
  `rowAttentionGradient:${normalizer.kind}:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

function kernelOf(text: string): Kernel {
  const [normalizer, ...rest] = text.split(':');
  const variant = variantOf(rest.join(':'));
  return rowAttentionGradientKernel({
    ...variant,
    normalizer: normalizer as NormalizerKind,
  }) as unknown as Kernel;
}

export const rowAttentionGradientLowering: OpLowering<RowAttentionGradientNode> = {
  kind: 'rowAttentionGradient',
  kernels: { ...clearKernels, rowAttentionGradient: kernelOf },
  keys: ({ attributes }) => [keyOf(attributes), 'clearFlat'],
  scratchBytes: (node, shape) => rowAttentionGradientScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const { normalizer } = node.attributes;
    const { fields } = attentionGradientFields(node, lowering);
    // A gradient of a parameter is shared by all sequences.
    const heads = fields.batches > 1 ? fields.B * fields.H : fields.group;
    const limit = normalizer.kind === 'topK' ? normalizer.k : 0;
    const units = (fields.B * fields.H) / heads;
    return [
      ...clearOutputs(node, lowering),
      lowering.step(keyOf(node.attributes), { ...fields, limit, heads }, units, 1),
    ];
  },
};
