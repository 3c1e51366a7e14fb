import type { FastWeightFeature, FastWeightsNode } from '../../../program/ops/fast-weights.ts';
import { type FastWeightsVariant, fastWeightsKernel, fastWeightsScratch } from '../kernels/fast-weights.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';
import { headFields } from './attention.ts';

/** A variant in words, as part of a kernel's key. */
export const variantText = ({ headSize, feature, causal }: FastWeightsVariant): string =>
  `${headSize}:${feature}:${causal ? 'causal' : 'whole'}`;

const keyOf = ({ attributes }: FastWeightsNode): string => `fastWeights:${variantText(attributes)}`;

export function parseVariant(text: string): FastWeightsVariant {
  const [headSize, feature, order] = text.split(':');
  return {
    headSize: Number(headSize),
    feature: feature as FastWeightFeature,
    causal: order === 'causal',
  };
}

export const fastWeightsLowering: OpLowering<FastWeightsNode> = {
  kind: 'fastWeights',
  kernels: { fastWeights: (variant) => fastWeightsKernel(parseVariant(variant)) as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: ({ attributes }) => fastWeightsScratch(attributes),
  steps(node, lowering) {
    const { attributes, outputs } = node;
    const fields = { ...headFields(node, lowering), beta: attributes.beta };
    const [B] = lowering.shape(outputs[0]);
    return [lowering.step(keyOf(node), fields, B * attributes.heads, 1)];
  },
};
