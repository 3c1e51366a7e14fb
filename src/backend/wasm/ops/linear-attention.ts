import { cosformerAngle } from '../../../program/ops/feature-maps.ts';
import type { LinearAttentionNode } from '../../../program/ops/linear-attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { linearAttentionKernel } from '../kernels/linear-attention.ts';
import { type LinearAttentionVariant, linearAttentionScratch } from '../kernels/linear-attention-block.ts';
import type { OpLowering } from '../lowering.ts';
import { headFields } from './attention.ts';

function variantOf({ attributes: { map, headSize, features } }: LinearAttentionNode): LinearAttentionVariant {
  return { map: map.kind === 'hedgehog' && map.normalise ? 'halves' : map.kind, headSize, features };
}

const keyOf = (node: LinearAttentionNode): string => {
  const { map, headSize, features } = variantOf(node);
  return `linearAttention:${map}:${headSize}:${features}`;
};

function parseVariant(text: string): LinearAttentionVariant {
  const [map, headSize, features] = text.split(':');
  return {
    map: map as LinearAttentionVariant['map'],
    headSize: Number(headSize),
    features: Number(features),
  };
}

/** Cosine and sine of the angle of each position. */
function angleTable(rows: number, maxLength: number): Int32Array {
  const pairs = Float32Array.from({ length: 2 * rows }, (_, i) => {
    const angle = cosformerAngle(i >> 1, maxLength);
    return i & 1 ? Math.sin(angle) : Math.cos(angle);
  });
  return new Int32Array(pairs.buffer);
}

export const linearAttentionLowering: OpLowering<LinearAttentionNode> = {
  kind: 'linearAttention',
  kernels: { linearAttention: (variant) => linearAttentionKernel(parseVariant(variant)) as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: (node) => linearAttentionScratch(variantOf(node)),
  steps(node, lowering) {
    const { shape, step, table, weight } = lowering;
    const { attributes, outputs, parameters } = node;
    const { headSize, map } = attributes;
    const heads = headFields(node, lowering);
    const { N, S, H } = heads;
    const [B] = shape(outputs[0]);
    const W = parameters.at(0);
    const rows = Math.max(N, S);
    const fields = {
      ...heads,
      w: W ? weight(W) : 0,
      wHead: W && W.shape[0] > 1 ? W.shape[1] * W.shape[2] * 4 : 0,
      angles:
        map.kind === 'cosformer'
          ? table(`cosformer:${rows}:${map.maxLength}`, () => angleTable(rows, map.maxLength))
          : 0,
      scale: Math.LOG2E * (map.kind === 'performer' ? headSize ** -0.25 : 1),
      epsilon: map.kind === 'performer' ? map.epsilon : 0,
    };
    return [step(keyOf(node), fields, B * H)];
  },
};
