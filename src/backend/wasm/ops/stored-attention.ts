import { shapeError } from '../../../program/op.ts';
import { LEAST_SUM, type StoredAttentionNode } from '../../../program/ops/stored-attention.ts';
import { expectServed, isFloatOrRows } from '../codecs.ts';
import type { Kernel } from '../kernels/kernel.ts';
import {
  STORED_ROWS,
  type StoredVariant,
  storedAttentionKernel,
  storedScratch,
} from '../kernels/stored-attention.ts';
import type { OpLowering } from '../lowering.ts';
import { storedCodec } from '../weights.ts';

const keyOf = ({ attributes, parameters: [weights] }: StoredAttentionNode): string =>
  `storedAttention:${storedCodec(weights)}:${attributes.headSize}`;

function variantOf(text: string): StoredVariant {
  const [codec, headSize] = text.split(':');
  return { codec: codec as StoredVariant['codec'], headSize: Number(headSize) };
}

export const storedAttentionLowering: OpLowering<StoredAttentionNode> = {
  kind: 'storedAttention',
  kernels: { storedAttention: (variant) => storedAttentionKernel(variantOf(variant)) as Kernel },
  keys(node) {
    expectServed(node.parameters, isFloatOrRows);
    return [keyOf(node)];
  },
  scratchBytes: ({ attributes }) => storedScratch(attributes.headSize),
  steps(node, { at, shape, weight, step }) {
    const { heads: H, from } = node.attributes;
    const [values, lengths] = node.inputs;
    const [, B, N, pitch] = shape(values);
    const most = node.parameters[0].shape[1];
    if (N > most)
      throw shapeError('storedAttention', 'sequence longer than its weights', `at most ${most}`, `${N}`);
    const blocks = Math.ceil(N / STORED_ROWS);
    const fields = {
      p: weight(node.parameters[0]),
      most,
      v: at(values) + from * B * N * pitch * 4,
      o: at(node.outputs[0]),
      lengths: at(lengths),
      N,
      B,
      H,
      blocks,
      least: LEAST_SUM,
    };
    return [step(keyOf(node), fields, B * H * blocks, 1)];
  },
};
