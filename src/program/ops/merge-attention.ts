import { dim, equalShapes, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface MergeAttentionAttributes {
  readonly heads: number;
}
export type MergeAttentionNode = Node<'mergeAttention', MergeAttentionAttributes>;

/** An attention's output `[B, N, H·D]` and its row statistics `[H, B, N, 2]`: largest score, sum of exp(score − largest). */
export type PartialAttention = readonly [output: Value, statistics: Value];

/**
 * Attention over the union of two sets of pairs that share none, from the attention over each: outputs weighted by
 * the sums of their exponentials (Rabe and Staats 2021, section 3). A row that is empty in both is 0.
 */
export function mergeAttention(t: Tracer, a: PartialAttention, b: PartialAttention): Value {
  const heads = a[1].shape[0];
  const wanted = [heads, ...a[0].shape.slice(0, 2), dim(2)];
  if (
    !equalShapes(a[0].shape, b[0].shape) ||
    !equalShapes(a[1].shape, wanted) ||
    !equalShapes(b[1].shape, wanted)
  )
    throw shapeError(
      'mergeAttention',
      'parts that do not belong together',
      `outputs ${formatShape(a[0].shape)}, statistics ${formatShape(wanted)}`,
      [...a, ...b].map(({ shape }) => formatShape(shape)).join(', '),
    );
  return t.emit('mergeAttention', {
    inputs: [...a, ...b],
    parameters: [],
    outputs: [['o', 'float32', a[0].shape]],
    attributes: { heads: heads.terms.get('') ?? 0 },
    rowWise: false,
  })[0];
}

export const mergeAttentionOp: OpDefinition<MergeAttentionNode> = {
  kind: 'mergeAttention',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds: (_node, { outputs: [o] }) => 2 * o.reduce((a, b) => a * b, 1),
  reference({ attributes: { heads } }, { inputs: [oa, sa, ob, sb] }) {
    const [B, N, C] = oa.shape;
    const D = C / heads;
    const out = new Float64Array(oa.data.length);
    for (let h = 0; h < heads; h++)
      for (let row = 0; row < B * N; row++) {
        const at = (h * B * N + row) * 2;
        const largest = Math.max(sa.data[at], sb.data[at]);
        const weight = (s: Float64Array) => (s[at + 1] > 0 ? s[at + 1] * Math.exp(s[at] - largest) : 0);
        const [wa, wb] = [weight(sa.data), weight(sb.data)];
        for (let d = 0; d < D; d++) {
          const i = row * C + h * D + d;
          if (wa + wb > 0) out[i] = (wa * oa.data[i] + wb * ob.data[i]) / (wa + wb);
        }
      }
    return [out];
  },
};
