import { roundEven } from '../../tensor/half.ts';
import type { OpDefinition, ReferenceContext } from '../op.ts';
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
  type ReferenceRows,
  referenceRows,
} from './attention.ts';

/** Which products are taken in integers: queries by keys alone, or weights by values too. */
export type IntegerPrecision = 'int8-scores' | 'int8';

export interface IntegerAttentionAttributes extends AttentionAttributes {
  readonly precision: IntegerPrecision;
}
export type IntegerAttentionNode = Node<'integerAttention', IntegerAttentionAttributes>;

export interface IntegerAttentionOptions extends Omit<AttentionOptions, 'statistics'> {
  readonly precision: IntegerPrecision;
}

/**
 * Attention in integers (SageAttention, Zhang et al. 2024, sections 4.2 to 4.4). Sources, options and the output
 * `[B, N, H·D]` are those of `attention`, but for the row statistics. `L` is the largest code of an unsigned operand,
 * `levels − 1`: 127 or 255.
 *
 * - Keys: less their mean over the sequence's keys, which softmax does not see; then codes from −127 to 127, one scale
 *   for each block of `blocks.key` keys of a head: its largest magnitude / 127.
 * - Queries: codes from −Q to Q, Q = ⌊L / 2⌋ (63 or 127), one scale for each row: its largest magnitude / Q.
 * - A score is the sum of products of codes, exact in 32 bits, times both scales and `scale`.
 * - `int8-scores`: softmax and the sum of values in float32.
 * - `int8`: within a block of keys a weight has the code ⌊L · exp(score − the block's largest score)⌉; values have codes
 *   from −127 to 127, one scale for each column of a head over the sequence's keys. A block's sums are exact; blocks
 *   are added in float32. The weights that divide the row are the coded ones, so that they sum to 1.
 *
 * Only keys that exist (`lengths`) enter a mean or a scale. Scales and codes are taken in float32, halves to even.
 * @throws `SHAPE_MISMATCH` for sources that do not belong together
 */
export function integerAttention(
  t: Tracer,
  sources: AttentionSources,
  { precision, ...options }: IntegerAttentionOptions,
): Value {
  const node = attentionNode(sources, options);
  return t.emit('integerAttention', {
    ...node,
    attributes: { ...node.attributes, precision } satisfies IntegerAttentionAttributes,
  })[0];
}

/** Scales below this are taken as this: what is so small has the code 0. */
export const LEAST_SCALE = Math.fround(1e-30);
/** Largest code of a key or a value. */
export const SIGNED = 127;

/** Codes in float32 arithmetic, as kernels make them: a code that fell otherwise would be another number. */
const scaleOf = (largest: number, codes: number): number =>
  Math.max(Math.fround(Math.fround(largest) / codes), LEAST_SCALE);
const codeOf = (x: number, scale: number): number =>
  roundEven(Math.fround(Math.fround(x) * Math.fround(1 / scale)));

interface Quantized {
  /** Row-major, `size` columns. */
  readonly codes: Float64Array;
  readonly scales: Float64Array;
}

/** Keys of one head: centred codes, and a scale for each block. */
function quantizedKeys(
  rows: ReferenceRows,
  first: number,
  n: number,
  size: number,
  block: number,
): Quantized {
  const { data } = rows;
  const pitch = rows.at(0, 0, 1) - rows.at(0, 0, 0);
  const centred = new Float64Array(n * size);
  for (let d = 0; d < size; d++) {
    let sum = 0;
    for (let k = 0; k < n; k++) sum = Math.fround(sum + Math.fround(data[first + k * pitch + d]));
    const mean = Math.fround(sum / n);
    for (let k = 0; k < n; k++)
      centred[k * size + d] = Math.fround(Math.fround(data[first + k * pitch + d]) - mean);
  }
  const scales = new Float64Array(Math.ceil(n / block));
  const codes = new Float64Array(n * size);
  for (let b = 0; b < scales.length; b++) {
    const [from, to] = [b * block * size, Math.min(n, (b + 1) * block) * size];
    let largest = 0;
    for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(centred[i]));
    scales[b] = scaleOf(largest, SIGNED);
    for (let i = from; i < to; i++) codes[i] = codeOf(centred[i], scales[b]);
  }
  return { codes, scales };
}

/** Values of one head: a scale for each column. */
function quantizedValues({ data, at }: ReferenceRows, first: number, n: number, size: number): Quantized {
  const pitch = at(0, 0, 1) - at(0, 0, 0);
  const scales = new Float64Array(size);
  const codes = new Float64Array(n * size);
  for (let d = 0; d < size; d++) {
    let largest = 0;
    for (let k = 0; k < n; k++) largest = Math.max(largest, Math.abs(data[first + k * pitch + d]));
    scales[d] = scaleOf(largest, SIGNED);
    for (let k = 0; k < n; k++) codes[k * size + d] = codeOf(data[first + k * pitch + d], scales[d]);
  }
  return { codes, scales };
}

/** Codes of one row of queries. */
function quantizedQuery(data: Float64Array, from: number, size: number, most: number) {
  let largest = 0;
  for (let d = 0; d < size; d++) largest = Math.max(largest, Math.abs(data[from + d]));
  const scale = scaleOf(largest, most);
  return { scale, codes: Array.from({ length: size }, (_, d) => codeOf(data[from + d], scale)) };
}

/** The scores of a row over the keys that it meets. */
function integerScores(
  query: ReturnType<typeof quantizedQuery>,
  keys: Quantized,
  seen: Int32Array,
  count: number,
  { keySize, scale, blocks }: AttentionAttributes,
): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let d = 0; d < keySize; d++) sum += query.codes[d] * keys.codes[seen[i] * keySize + d];
    return sum * query.scale * keys.scales[Math.floor(seen[i] / blocks.key)] * scale;
  });
}

/** Weights as they multiply values: floats over all keys, or codes with a factor for each block of keys. */
function weightsOf(
  scores: Float64Array,
  seen: Int32Array,
  block: number,
  codes: number | null,
): Float64Array {
  const largest = Math.max(...scores);
  if (codes === null) return scores.map((s) => Math.exp(s - largest));
  const byBlock = new Map<number, number>();
  const blockOf = (i: number) => Math.floor(seen[i] / block);
  scores.forEach((s, i) => {
    byBlock.set(blockOf(i), Math.max(byBlock.get(blockOf(i)) ?? -Infinity, s));
  });
  return scores.map((s, i) => {
    const top = byBlock.get(blockOf(i))!;
    return roundEven(codes * Math.exp(s - top)) * Math.exp(top - largest);
  });
}

function reference(attributes: IntegerAttentionAttributes, context: ReferenceContext): Float64Array[] {
  const { headSize: D, keySize, blocks, precision, lengths } = attributes;
  const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
    referenceRows(place, context),
  );
  const most = context.levels - 1;
  const out = new Float64Array(context.outputShapes[0].reduce((a, b) => a * b, 1));
  const made = new Map<string, { keys: Quantized; values: Quantized | null }>();
  const quantized = (g: number, b: number) => {
    const length = lengths === null ? values.rows : context.inputs[lengths].data[b];
    const n = Math.min(length, values.rows);
    return {
      keys: quantizedKeys(keys, keys.at(g, b, 0), n, keySize, blocks.key),
      values: precision === 'int8' ? quantizedValues(values, values.at(g, b, 0), n, D) : null,
    };
  };
  eachReferenceRow(attributes, context, ({ h, g, b, q, keys: seen, count, to }) => {
    const key = `${g} ${b}`;
    const head = made.get(key) ?? quantized(g, b);
    made.set(key, head);
    const query = quantizedQuery(queries.data, queries.at(h, b, q), keySize, most >> 1);
    const scores = integerScores(query, head.keys, seen, count, attributes);
    const weights = weightsOf(scores, seen, blocks.key, head.values && most);
    const sum = weights.reduce((a, w) => a + w, 0);
    for (let i = 0; i < count; i++) {
      const v = values.at(g, b, seen[i]);
      for (let d = 0; d < D; d++) {
        const value = head.values
          ? head.values.codes[seen[i] * D + d] * head.values.scales[d]
          : values.data[v + d];
        out[to + d] += (weights[i] / sum) * value;
      }
    }
  });
  return [out];
}

/**
 * Errors by precision. Codes of queries, keys and values are the same bit by bit, and so are their sums: what is left
 * is float32. A weight of `int8` is coded after an exponential, which float32 has to 1e-7 only: one that falls between
 * two codes may take either, 1/127 of its block's largest weight; two such in one row are allowed.
 */
export const INTEGER_BUDGETS = {
  'int8-scores': { absolute: 2e-6, relative: 3e-6 },
  int8: { absolute: 4e-6, relative: 2 / 127 },
} as const;

export const integerAttentionOp: OpDefinition<IntegerAttentionNode> = {
  kind: 'integerAttention',
  budget: INTEGER_BUDGETS.int8,
  multiplyAdds: (node, context) => attentionOp.multiplyAdds(node as unknown as AttentionNode, context),
  reference: ({ attributes }, context) => reference(attributes, context),
};
