import { local } from '../../../src/attention/pattern/window.ts';
import {
  and,
  eq,
  ge,
  key,
  le,
  type MaskExpression,
  sub as minus,
  mod,
  query,
  constant as whole,
} from '../../../src/program/mask/expression.ts';
import { stacked } from '../../../src/program/ops/attention.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { scoredAttention } from '../../../src/program/ops/scored-attention.ts';
import {
  abs,
  add,
  alibi,
  constant,
  distance,
  max,
  mentions,
  min,
  mul,
  neg,
  type ScoreExpression,
  score,
  slope,
  softcap,
  sub,
  table,
  tanh,
} from '../../../src/program/score/expression.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface ScoredOptions {
  N?: number;
  H?: number;
  keyHeads?: number;
  D?: number;
  lengths?: number[];
  mask?: MaskExpression;
  blocks?: { query: number; key: number };
  statistics?: boolean;
  /** R of the table. */
  reach?: number;
  tableScale?: number;
  /** Factors on queries, keys and values. */
  factors?: [number, number, number];
}

function scoredCase(name: string, expression: ScoreExpression, options: ScoredOptions = {}): ConformanceCase {
  const { N = 70, H = 3, D = 8, mask = null, factors = [1, 1, 1], reach = 5, lengths = [N] } = options;
  const { keyHeads = H } = options;
  const B = lengths.length;
  const pitch = padHead(D);
  const heads = H + 2 * keyHeads;
  return {
    op: 'scoredAttention',
    name,
    finite: !options.statistics,
    codes: false,
    build(random) {
      const perHead = B * N * pitch;
      const partOf = (head: number) => (head < H ? 0 : head < H + keyHeads ? 1 : 2);
      const qkv = random
        .gaussians(heads * perHead)
        .map((v, i) => (i % pitch >= D ? 0 : v * factors[partOf(Math.floor(i / perHead))]));
      const width = 2 * reach + 1;
      const biases = random.gaussians(H * width).map((v) => v * (options.tableScale ?? 1));
      const builder = new CaseBuilder(random, { B, N })
        .data('qkv', qkv)
        .data('lengths', Int32Array.from(lengths));
      const reads = mentions(expression, 'table');
      if (reads) builder.weight('table', 'float32', [H, width], biases);
      return builder.finish((t, input) => [
        ...scoredAttention(
          t,
          {
            ...stacked(input('qkv', [heads, symbol('B'), symbol('N'), pitch]), H, keyHeads),
            lengths: input('lengths', [symbol('B')]),
          },
          {
            heads: H,
            keyHeads,
            headSize: D,
            scale: 1 / Math.sqrt(D),
            mask,
            blocks: options.blocks,
            statistics: options.statistics,
            score: expression,
            table: reads ? t.parameter('table') : undefined,
          },
        ),
      ]);
    },
  };
}

const biased = add(score, alibi);
const relative = add(score, table);
const capped = softcap(5);
/** Every leaf and every operation. */
const everything = add(
  max(min(score, constant(3)), neg(abs(sub(table, constant(2))))),
  sub(tanh(mul(score, slope)), mul(constant(0.01), max(distance, constant(-20)))),
);

export const scoredAttentionCases: ConformanceCase[] = [
  scoredCase('the score itself', score, { lengths: [70, 33] }),
  scoredCase('ALiBi', biased, { N: 150, H: 4, lengths: [150, 63, 64, 65, 1, 0] }),
  scoredCase('ALiBi, heads no power of two', biased, { N: 150, H: 6, D: 20 }),
  scoredCase('relative bias', relative, { N: 150, lengths: [150, 63, 64, 65, 1, 0] }),
  scoredCase('relative bias of no reach', relative, { reach: 0 }),
  scoredCase('relative bias that reaches past both ends', relative, { reach: 200, lengths: [70, 3] }),
  scoredCase('relative bias of a block and one', relative, { N: 200, reach: 64 }),
  scoredCase('relative bias of 30', relative, { tableScale: 30, N: 130 }),
  scoredCase('softcap', capped, { N: 150, D: 32, lengths: [150, 63, 64, 65, 1, 0] }),
  scoredCase('softcap of 50, the largest in use', softcap(50), { N: 130, D: 64 }),
  scoredCase('softcap of small scores', softcap(50), { N: 70, factors: [1e-3, 1e-3, 1] }),
  scoredCase('softcap of scores of 1e8', softcap(50), { N: 20, factors: [1e4, 1e4, 1] }),
  scoredCase('ALiBi on scores of 1e8', biased, { N: 20, factors: [1e4, 1e4, 1] }),
  scoredCase('a distance alone', neg(abs(distance)), { N: 130, lengths: [130, 40] }),
  scoredCase('score times distance', mul(score, mul(distance, constant(0.01))), { N: 130 }),
  scoredCase('a constant', constant(4), { N: 130, lengths: [130, 40] }),
  scoredCase('a table alone, as a Synthesizer has it', table, { N: 90, reach: 90 }),
  scoredCase('every leaf and operation', everything, { N: 150, lengths: [150, 77] }),
  ...[1, 2, 3, 4, 5, 63, 64, 65, 129].map((N) => scoredCase(`all over ${N} tokens`, everything, { N })),
  scoredCase('two key heads of six', everything, { H: 6, keyHeads: 2, lengths: [70, 12] }),
  scoredCase('row statistics', capped, { lengths: [70, 40, 0], statistics: true }),
  ...[
    { query: 16, key: 32 },
    { query: 32, key: 64 },
    { query: 64, key: 128 },
  ].map((blocks) =>
    scoredCase(`blocks of ${blocks.query} by ${blocks.key}`, everything, {
      N: 150,
      lengths: [150, 77],
      mask: local(20, 33),
      blocks,
    }),
  ),
  scoredCase('ALiBi in a window', biased, { N: 200, mask: local(5, 9), lengths: [200, 70] }),
  scoredCase('softcap in a causal mask', capped, { N: 131, mask: le(key, query) }),
  scoredCase('relative bias in strides', relative, {
    N: 100,
    mask: eq(mod(minus(key, query), whole(7)), whole(0)),
  }),
  scoredCase('rows that see nothing', everything, { mask: and(le(key, query), ge(query, whole(3))) }),
  scoredCase('a mask that keeps nothing', everything, { mask: le(key, whole(-1)) }),
];
