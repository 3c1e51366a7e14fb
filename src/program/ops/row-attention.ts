import { dim } from '../../tensor/dim.ts';
import type { OpDefinition } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import {
  type AttentionAttributes,
  type AttentionNode,
  type AttentionOptions,
  type AttentionSources,
  attentionNode,
  attentionOp,
  eachReferenceRow,
  referenceRows,
} from './attention.ts';

/** How a row of scores becomes weights that sum to 1, most of them exactly 0. */
export type Normalizer =
  /** Softmax of the `k` largest scores; among equal ones the earlier key wins. */
  | { readonly kind: 'topK'; readonly k: number }
  /** The nearest point of the simplex (Martins and Astudillo 2016). */
  | { readonly kind: 'sparsemax' }
  /** Between softmax and sparsemax: α = 1.5 (Peters, Niculae and Martins 2019). */
  | { readonly kind: 'entmax15' };

export interface RowAttentionAttributes extends AttentionAttributes {
  readonly normalizer: Normalizer;
}
export type RowAttentionNode = Node<'rowAttention', RowAttentionAttributes>;

/**
 * Attention whose weights are found over a whole row of scores at once, so that value rows of weight 0 are never
 * read. Otherwise as `attention`. Gives `[B, N, H·D]` and how many keys each row reads, `[H, B, N]`.
 */
export function rowAttention(
  t: Tracer,
  sources: AttentionSources,
  options: Omit<AttentionOptions, 'blocks' | 'statistics'>,
  normalizer: Normalizer,
): [output: Value, support: Value] {
  const node = attentionNode(sources, { ...options, blocks: { query: 8, key: 64 } });
  const [B, N] = node.outputs[0][2];
  return t.emit('rowAttention', {
    ...node,
    outputs: [...node.outputs, ['support', 'float32', [dim(options.heads), B, N]]],
    attributes: { ...node.attributes, normalizer } satisfies RowAttentionAttributes,
  }) as [Value, Value];
}

/** Weights of one row of scores, in float64 by sorting. */
export function normalizeRow(scores: Float64Array, normalizer: Normalizer): Float64Array {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  const out = new Float64Array(scores.length);
  if (normalizer.kind === 'topK') {
    let sum = 0;
    for (const i of order.slice(0, normalizer.k)) sum += out[i] = Math.exp(scores[i] - scores[order[0]]);
    return out.map((w) => w / sum);
  }
  const half = normalizer.kind === 'entmax15';
  const x = order.map((i) => (scores[i] - scores[order[0]]) / (half ? 2 : 1));
  let threshold = 0;
  let sum = 0;
  let squares = 0;
  for (let count = 1; count <= x.length; count++) {
    sum += x[count - 1];
    squares += x[count - 1] ** 2;
    const mean = sum / count;
    // Of the `count` largest: Σ(x − τ) = 1, or Σ(x − τ)² = 1.
    const candidate = half
      ? mean - Math.sqrt(Math.max(0, (1 - (squares - count * mean * mean)) / count))
      : (sum - 1) / count;
    if (x[count - 1] <= candidate) break;
    threshold = candidate;
  }
  order.forEach((i, rank) => {
    const above = Math.max(0, x[rank] - threshold);
    out[i] = half ? above * above : above;
  });
  return out;
}

export const rowAttentionOp: OpDefinition<RowAttentionNode> = {
  kind: 'rowAttention',
  budget: { absolute: 4e-6, relative: 6e-6 },
  /** As if no value row were skipped. */
  multiplyAdds: (node, context) => attentionOp.multiplyAdds(node as unknown as AttentionNode, context),
  reference({ attributes }, context) {
    const { heads: H, headSize: D, keySize, scale, normalizer } = attributes;
    const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
      referenceRows(place, context),
    );
    const [B, N] = context.outputShapes[0];
    const out = new Float64Array(B * N * H * D);
    const support = new Float64Array(H * B * N);
    eachReferenceRow(attributes, context, ({ h, g, b, q, keys: seen, count, to }) => {
      if (count === 0) return;
      const x = queries.at(h, b, q);
      const scores = new Float64Array(count);
      for (let i = 0; i < count; i++) {
        const y = keys.at(g, b, seen[i]);
        for (let d = 0; d < keySize; d++) scores[i] += scale * queries.data[x + d] * keys.data[y + d];
      }
      normalizeRow(scores, normalizer).forEach((weight, i) => {
        if (weight === 0) return;
        support[(h * B + b) * N + q]++;
        const v = values.at(g, b, seen[i]);
        for (let d = 0; d < D; d++) out[to + d] += weight * values.data[v + d];
      });
    });
    return [out, support];
  },
};
