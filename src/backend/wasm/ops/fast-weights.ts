import type { FastWeightFeature, FastWeightsNode } from '../../../program/ops/fast-weights.ts';
import { type FastWeightsVariant, fastWeightsKernel, fastWeightsScratch } from '../kernels/fast-weights.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';
import { headsOf } from './attention.ts';

const keyOf = ({ attributes: { headSize, feature, causal } }: FastWeightsNode): string =>
  `fastWeights:${headSize}:${feature}:${causal ? 'causal' : 'whole'}`;

function parseVariant(text: string): FastWeightsVariant {
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
    const { at, shape, step } = lowering;
    const { attributes, inputs, outputs } = node;
    const [q, k, v] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
      headsOf(node, place, lowering),
    );
    const [B, N] = shape(outputs[0]);
    const fields = {
      q: q.base,
      qHead: q.head,
      qBatch: q.batch,
      k: k.base,
      kHead: k.head,
      kBatch: k.batch,
      v: v.base,
      vHead: v.head,
      vBatch: v.batch,
      o: at(outputs[0]),
      lengths: attributes.lengths === null ? 0 : at(inputs[attributes.lengths]),
      beta: attributes.beta,
      N,
      S: v.rows,
      H: attributes.heads,
    };
    return [step(keyOf(node), fields, B * attributes.heads, 1)];
  },
};
