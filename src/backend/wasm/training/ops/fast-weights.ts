import type { FastWeightsGradientNode } from '../../../../program/gradient/fast-weights.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import type { OpLowering } from '../../lowering.ts';
import { headFields } from '../../ops/attention.ts';
import { parseVariant, variantText } from '../../ops/fast-weights.ts';
import { fastWeightsGradientKernel, fastWeightsGradientScratch } from '../kernels/fast-weights.ts';

const keyOf = ({ attributes }: FastWeightsGradientNode): string =>
  `fastWeightsGradient:${variantText(attributes)}`;

export const fastWeightsGradientLowering: OpLowering<FastWeightsGradientNode> = {
  kind: 'fastWeightsGradient',
  kernels: {
    fastWeightsGradient: (variant) => fastWeightsGradientKernel(parseVariant(variant)) as Kernel,
  },
  keys: (node) => [keyOf(node)],
  scratchBytes: ({ attributes }) => fastWeightsGradientScratch(attributes),
  steps(node, lowering) {
    const { attributes, inputs, outputs } = node;
    const dy = inputs.at(-1)!;
    const [dq, dk, dv] = outputs.map((y) => lowering.at(y));
    const [B] = lowering.shape(dy);
    const fields = {
      ...headFields({ ...node, outputs: [dy] }, lowering),
      dq,
      dk,
      dv,
      B,
      beta: attributes.beta,
    };
    return [lowering.step(keyOf(node), fields, B * attributes.heads, 1)];
  },
};
