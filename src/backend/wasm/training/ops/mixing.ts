import type { MergeAttentionGradientNode } from '../../../../program/gradient/merge-attention.ts';
import type { RegroupByResidueNode } from '../../../../program/gradient/residue.ts';
import type { StoredAttentionGradientNode } from '../../../../program/gradient/stored-attention.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { residueKernel } from '../../kernels/residue.ts';
import { type OpLowering, only } from '../../lowering.ts';
import { rotaryLoweringOf } from '../../ops/rotary.ts';
import { mergeAttentionGradientKernel } from '../kernels/merge-attention.ts';
import {
  storedAttentionGradientKernel,
  storedAttentionGradientScratch,
} from '../kernels/stored-attention.ts';
import { blockBytesOf } from '../weights.ts';

export const mergeAttentionGradientLowering: OpLowering<MergeAttentionGradientNode> = {
  kind: 'mergeAttentionGradient',
  kernels: { mergeAttentionGradient: only(mergeAttentionGradientKernel) },
  keys: () => ['mergeAttentionGradient'],
  steps({ inputs, outputs, attributes: { heads: H } }, { at, shape, step }) {
    const [oa, sa, ob, sb, o, dy] = inputs.map((v) => at(v));
    const [doa, dsa, dob, dsb] = outputs.map((v) => at(v));
    const [B, N, C] = shape(inputs[0]);
    const fields = { oa, sa, ob, sb, o, dy, doa, dsa, dob, dsb, H, rows: B * N, D: C / H };
    return [step('mergeAttentionGradient', fields, B * N)];
  },
};

export const regroupByResidueLowering: OpLowering<RegroupByResidueNode> = {
  kind: 'regroupByResidue',
  kernels: { regroupByResidue: only(residueKernel('group')) },
  keys: () => ['regroupByResidue'],
  steps({ inputs: [dy], outputs: [dx], attributes: { stride } }, { at, shape, step }) {
    const [N, W] = shape(dy).slice(-2);
    const sequences = elements(shape(dy)) / (N * W);
    const fields = { x: at(dy), y: at(dx), stride, N, M: shape(dx).at(-2)!, width: W * 4 };
    return [step('regroupByResidue', fields, sequences * stride)];
  },
};

export const rotaryGradientLowering = rotaryLoweringOf('rotaryGradient', -1);

export const storedAttentionGradientLowering: OpLowering<StoredAttentionGradientNode> = {
  kind: 'storedAttentionGradient',
  kernels: {
    storedAttentionGradient: (size) => storedAttentionGradientKernel(Number(size)) as Kernel,
  },
  keys: ({ attributes }) => [`storedAttentionGradient:${attributes.headSize}`],
  scratchBytes: ({ inputs: [v], attributes }, shape) =>
    storedAttentionGradientScratch(shape(v)[2], attributes.headSize),
  steps(node, lowering) {
    const { at, shape, weight, step } = lowering;
    const [v, lengths, o, dO] = node.inputs;
    const { heads: H, headSize, from } = node.attributes;
    const [, B, N, pitch] = shape(v);
    const [roots] = node.parameters;
    const fields = {
      roots: weight(roots),
      dRoots: node.gradients?.length ? blockBytesOf(lowering) : 0,
      most: roots.shape[1],
      v: at(v) + from * B * N * pitch * 4,
      dV: at(node.outputs[0]),
      o: at(o),
      dO: at(dO),
      lengths: at(lengths),
      B,
      N,
      H,
    };
    return [step(`storedAttentionGradient:${headSize}`, fields, H, 1)];
  },
};
