import type { MergeAttentionNode } from '../../../program/ops/merge-attention.ts';
import { mergeAttentionKernel } from '../kernels/merge-attention.ts';
import { type OpLowering, only } from '../lowering.ts';

export const mergeAttentionLowering: OpLowering<MergeAttentionNode> = {
  kind: 'mergeAttention',
  kernels: { mergeAttention: only(mergeAttentionKernel) },
  keys: () => ['mergeAttention'],
  steps({ inputs: [oa, sa, ob, sb], outputs: [o], attributes: { heads: H } }, { at, shape, step }) {
    const [B, N, C] = shape(o);
    const fields = { oa: at(oa), sa: at(sa), ob: at(ob), sb: at(sb), o: at(o), H, rows: B * N, D: C / H };
    return [step('mergeAttention', fields, B * N)];
  },
};
