import { equalDims, equalShapes, formatShape } from '../../tensor/dim.ts';
import { clamp, multiplyShift } from '../integer/dyadic.ts';
import { EXP_END, integerExp } from '../integer/exp.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface IntAttentionAttributes {
  readonly heads: number;
  readonly headSize: number;
  /** Factor from a difference of sums of codes to the exponent of 2, in units of 2^−12 (`integer/exp`). */
  readonly score: { readonly multiplier: number; readonly shift: number };
  /** Factor from the scale of the values to that of the output; the multiplier has at most 15 bits. */
  readonly value: { readonly multiplier: number; readonly shift: number };
  readonly zeroPoint: number;
}
export type IntAttentionNode = Node<'intAttention', IntAttentionAttributes>;

/** Most keys: 2^12 · 2^7 · 2^12 is 2^31. */
export const MOST_KEYS = 4096;
/** Most columns of a head: sums of 2^14 stay below 2^30, so that their differences fit 32 bits. */
export const MOST_HEAD = 2 ** 15;

/** The largest difference of sums that a weight is left of: what is further down is as far. */
export const farthest = ({ multiplier, shift }: IntAttentionAttributes['score']): number =>
  Math.min(2 ** 31 - 1, multiplier === 0 ? 0 : Math.ceil((EXP_END * 2 ** shift) / multiplier));

/** `num / sum` as one multiplication of num: the multiplier is below 2^31, the shift from 27 to 39. */
export function reciprocalOf(sum: number): { multiplier: number; shift: number } {
  // 12 to 24 bits, brought to 16: the reciprocal then has 16 or 17.
  const bits = 32 - Math.clz32(sum);
  const reduced = bits > 16 ? sum >> (bits - 16) : sum << (16 - bits);
  return { multiplier: Math.floor(2 ** 31 / reduced), shift: 31 + bits - 16 };
}

/**
 * Attention on int8 codes with zero point 0, `[B, N, H·D]` each of queries, keys and values, in integers (Kim et al.
 * 2021, sections 3.2 and 3.5), keys before `lengths[b]`:
 *
 *     s    = Σ q·k                                    below 2^30
 *     t    = ⌊min(max s − s, farthest) · score⌉       exponent of 2 in units of 2^−12
 *     p    = i-exp(t)                                 0 … 4095, relative to the row's largest: no row loses its sum
 *     code = clamp(⌊Σ p·v · (1 / Σ p) · value⌉ + zeroPoint)
 *
 * `Σ p·v` is below 2^31 for at most 4096 keys; its divisor is a reciprocal of 16 bits. A row with no key is 0, which is
 * the code `zeroPoint`.
 */
export function intAttention(
  t: Tracer,
  sources: { readonly queries: Value; readonly keys: Value; readonly values: Value; readonly lengths: Value },
  attributes: IntAttentionAttributes,
): Value {
  const { queries, keys, values, lengths } = sources;
  const { heads, headSize } = attributes;
  for (const [what, value] of Object.entries({ queries, keys, values }))
    if (
      value.dtype !== 'int8' ||
      value.shape.length !== 3 ||
      !equalDims(value.shape[2], heads * headSize) ||
      !equalShapes(value.shape, queries.shape)
    )
      throw shapeError(
        'intAttention',
        `${what} of another form`,
        `int8 codes [B, N, ${heads * headSize}]`,
        `${value.dtype} ${formatShape(value.shape)}`,
      );
  if (headSize > MOST_HEAD)
    throw shapeError('intAttention', 'heads too wide for 32 bits', `at most ${MOST_HEAD}`, `${headSize}`);
  return t.emit('intAttention', {
    inputs: [queries, keys, values, lengths],
    parameters: [],
    outputs: [['o', 'int8', queries.shape]],
    attributes,
    rowWise: false,
  })[0];
}

export const intAttentionOp: OpDefinition<IntAttentionNode> = {
  kind: 'intAttention',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds(_node, { inputs }) {
    const [B, N, C] = inputs[0];
    return 2 * B * N * N * C;
  },
  reference({ attributes: { heads: H, headSize: D, score, value, zeroPoint } }, { inputs, outputShapes }) {
    const [q, k, v, lengths] = inputs.map(({ data }) => data);
    const [B, N, C] = outputShapes[0];
    const out = new Float64Array(B * N * C).fill(zeroPoint);
    const most = farthest(score);
    for (let b = 0; b < B; b++) {
      const n = Math.max(0, Math.min(lengths[b], N));
      for (let row = 0; row < (n > 0 ? N : 0); row++)
        for (let h = 0; h < H; h++) {
          const at = (i: number) => (b * N + i) * C + h * D;
          const scores = Array.from({ length: n }, (_, i) => {
            let sum = 0;
            for (let d = 0; d < D; d++) sum += q[at(row) + d] * k[at(i) + d];
            return sum;
          });
          const largest = scores.reduce((a, s) => Math.max(a, s), -Infinity);
          const weights = scores.map((s) =>
            integerExp(multiplyShift(Math.min(largest - s, most), score.multiplier, score.shift)),
          );
          const { multiplier, shift } = reciprocalOf(weights.reduce((a, p) => a + p, 0));
          for (let d = 0; d < D; d++) {
            const sum = weights.reduce((a, p, i) => a + p * v[at(i) + d], 0);
            const y = multiplyShift(sum, multiplier * value.multiplier, shift + value.shift);
            out[at(row) + d] = clamp(y + zeroPoint, -128, 127);
          }
        }
    }
    return [out];
  },
};
