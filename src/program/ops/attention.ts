import { dim, formatShape } from '../../tensor/dim.ts';
import { evaluateMask, type MaskExpression } from '../mask/expression.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { padHead } from './linear.ts';

export interface AttentionAttributes {
  readonly heads: number;
  readonly headSize: number;
  readonly scale: number;
  /** Which pairs (query, key) may meet; null: all. */
  readonly mask: MaskExpression | null;
}
export type AttentionNode = Node<'attention', AttentionAttributes>;

/**
 * Scaled dot-product attention (Vaswani et al. 2017, section 3.2) over the pairs that `mask` keeps and keys
 * before `lengths[b]`. qkv `[3H, B, N, D′]` (queries, keys, values by head, D′ = D padded to 8) → `[B, N, H·D]`.
 * A row with no key is 0.
 */
export function attention(t: Tracer, qkv: Value, lengths: Value, attributes: AttentionAttributes): Value {
  const { heads, headSize } = attributes;
  const expected = [dim(3 * heads), ...qkv.shape.slice(1, 3), dim(padHead(headSize))];
  if (qkv.shape.length !== 4 || formatShape(qkv.shape) !== formatShape(expected))
    throw shapeError('attention', 'qkv of another shape', formatShape(expected), formatShape(qkv.shape));
  return t.emit('attention', {
    inputs: [qkv, lengths],
    parameters: [],
    outputs: [['o', 'float32', [...qkv.shape.slice(1, 3), dim(heads * headSize)]]],
    attributes,
    rowWise: false,
  })[0];
}

export const attentionOp: OpDefinition<AttentionNode> = {
  kind: 'attention',
  budget: { absolute: 2e-6, relative: 3e-6 },
  // Dense pairs: an upper bound; `program/cost` counts the blocks that a mask keeps.
  multiplyAdds: ({ attributes }, { inputs }) =>
    2 * attributes.heads * inputs[0][1] * inputs[0][2] ** 2 * attributes.headSize,
  reference({ attributes }, { inputs, outputShapes }) {
    const { heads: H, headSize: D, scale, mask } = attributes;
    const [{ data, shape }, lengths] = inputs;
    const [, B, N, pitch] = shape;
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const row = (part: number, h: number, b: number, n: number) => (((part * H + h) * B + b) * N + n) * pitch;
    const seen = new Int32Array(N);
    const weights = new Float64Array(N);
    for (let h = 0; h < H; h++)
      for (let q = 0; q < N; q++) {
        // Which keys this query may meet is the same in the whole batch, up to each sequence's length.
        let candidates = 0;
        for (let k = 0; k < N; k++) if (!mask || evaluateMask(mask, { h, q, k })) seen[candidates++] = k;
        for (let b = 0; b < B; b++) {
          let count = 0;
          let largest = -Infinity;
          for (; count < candidates && seen[count] < lengths.data[b]; count++) {
            const [x, y] = [row(0, h, b, q), row(1, h, b, seen[count])];
            let score = 0;
            for (let d = 0; d < D; d++) score += data[x + d] * data[y + d];
            weights[count] = scale * score;
            largest = Math.max(largest, weights[count]);
          }
          let sum = 0;
          for (let i = 0; i < count; i++) sum += weights[i] = Math.exp(weights[i] - largest);
          const to = ((b * N + q) * H + h) * D;
          for (let i = 0; i < count; i++) {
            const v = row(2, h, b, seen[i]);
            for (let d = 0; d < D; d++) out[to + d] += (weights[i] / sum) * data[v + d];
          }
        }
      }
    return [out];
  },
};
