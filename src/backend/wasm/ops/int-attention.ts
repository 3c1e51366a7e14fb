import { farthest, type IntAttentionNode } from '../../../program/ops/int-attention.ts';
import { intAttentionKernel, intAttentionScratch } from '../kernels/int-attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';

const keyOf = ({ attributes }: IntAttentionNode): string => `intAttention:${attributes.headSize}`;

export const intAttentionLowering: OpLowering<IntAttentionNode> = {
  kind: 'intAttention',
  kernels: { intAttention: (size) => intAttentionKernel(Number(size)) as unknown as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: ({ inputs, attributes }, shape) =>
    intAttentionScratch(shape(inputs[0])[1], attributes.headSize),
  steps(node, { at, shape, step }) {
    const { heads, score, value, zeroPoint } = node.attributes;
    const [q, k, v, lengths] = node.inputs.map((input) => at(input));
    const [B, N] = shape(node.inputs[0]);
    const fields = {
      q,
      k,
      v,
      lengths,
      o: at(node.outputs[0]),
      N,
      H: heads,
      farthest: farthest(score),
      scoreMultiplier: score.multiplier,
      scoreShift: score.shift,
      valueMultiplier: value.multiplier,
      valueShift: value.shift,
      zeroPoint,
    };
    return [step(keyOf(node), fields, B * heads, 1)];
  },
};
