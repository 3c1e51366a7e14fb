import type { SpikingAttentionNode } from '../../../program/ops/spiking-attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { spikingAttentionKernel, spikingScratch } from '../kernels/spiking-attention.ts';
import type { OpLowering } from '../lowering.ts';

const keyOf = ({ attributes }: SpikingAttentionNode): string => `spikingAttention:${attributes.headSize}`;

export const spikingAttentionLowering: OpLowering<SpikingAttentionNode> = {
  kind: 'spikingAttention',
  kernels: { spikingAttention: (size) => spikingAttentionKernel(Number(size)) as unknown as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: ({ inputs: [qkv], attributes }, shape) => spikingScratch(shape(qkv)[2], attributes.headSize),
  steps(node, { at, shape, step, weight }) {
    const { inputs, outputs, attributes } = node;
    const [qkv, lengths] = inputs;
    const [o, spikes] = outputs;
    const [thresholds, readout] = node.parameters.map(weight);
    const { heads: H } = attributes;
    const [, B, N] = shape(qkv);
    const fields = {
      qkv: at(qkv),
      o: at(o),
      spikes: at(spikes),
      lengths: at(lengths),
      thresholds,
      readout,
      N,
      B,
      H,
    };
    return [step(keyOf(node), fields, B * H, 1)];
  },
};
