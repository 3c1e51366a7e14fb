import { local } from '../../../src/attention/pattern/window.ts';
import {
  add,
  and,
  constant,
  div,
  eq,
  ge,
  head,
  key,
  le,
  type MaskExpression,
  mod,
  mul,
  not,
  or,
  query,
  sub,
} from '../../../src/program/mask/expression.ts';
import { attention, stacked } from '../../../src/program/ops/attention.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface AttentionOptions {
  B?: number;
  N?: number;
  H?: number;
  D?: number;
  scale?: number;
  /** One for each sequence; by default N. */
  lengths?: number[];
  mask?: MaskExpression;
  blocks?: { query: number; key: number };
  statistics?: boolean;
  /** Factors on queries, keys and values. */
  factors?: [number, number, number];
}

function attentionCase(name: string, options: AttentionOptions): ConformanceCase {
  const { N = 17, H = 2, D = 32, mask = null, factors = [1, 1, 1] } = options;
  const B = options.lengths?.length ?? options.B ?? 1;
  const pitch = padHead(D);
  return {
    op: 'attention',
    name,
    // The largest score of a row that sees no key is −∞.
    finite: !options.statistics,
    codes: false,
    build(random) {
      const perPart = H * B * N * pitch;
      const qkv = random
        .gaussians(3 * perPart)
        .map((v, i) => (i % pitch >= D ? 0 : v * factors[Math.floor(i / perPart)]));
      return new CaseBuilder(random, { B, N })
        .data('qkv', qkv)
        .data('lengths', Int32Array.from(options.lengths ?? Array(B).fill(N)))
        .finish((t, input) => [
          ...attention(
            t,
            {
              ...stacked(input('qkv', [3 * H, symbol('B'), symbol('N'), pitch]), H),
              lengths: input('lengths', [symbol('B')]),
            },
            {
              heads: H,
              headSize: D,
              scale: options.scale ?? 1 / Math.sqrt(D),
              mask,
              blocks: options.blocks,
              statistics: options.statistics,
            },
          ),
        ]);
    },
  };
}

const causal = le(key, query);

export const attentionCases: ConformanceCase[] = [
  attentionCase('ordinary', { B: 2, N: 40, H: 3, D: 32 }),
  ...[1, 3, 8, 20, 26, 32, 64].map((D) => attentionCase(`heads of ${D}`, { B: 2, N: 21, D })),
  ...[1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 127, 130].map((N) => attentionCase(`${N} tokens`, { N, D: 8 })),
  attentionCase('one head', { H: 1, N: 70, D: 20 }),
  attentionCase('another scale', { scale: 1 }),
  attentionCase('lengths shorter than N, and none', { N: 70, lengths: [70, 33, 1, 0] }),
  attentionCase('lengths on both sides of a block', { N: 140, D: 8, lengths: [63, 64, 65, 128, 129] }),
  attentionCase('an empty batch of rows', { N: 5, lengths: [0, 0] }),
  attentionCase('local window', { N: 150, D: 26, mask: local(5, 9) }),
  attentionCase('local window, lengths short of it', {
    N: 150,
    D: 8,
    lengths: [150, 20, 64],
    mask: local(3, 3),
  }),
  attentionCase('local window wider than a block', { N: 260, D: 8, mask: local(70, 66) }),
  attentionCase('window of the token itself', { N: 66, D: 8, mask: local(0, 0) }),
  attentionCase('causal', { N: 131, D: 20, mask: causal }),
  attentionCase('strided', { N: 100, D: 8, mask: eq(mod(sub(key, query), constant(7)), constant(0)) }),
  attentionCase('block-diagonal', {
    N: 200,
    D: 8,
    mask: eq(div(key, constant(64)), div(query, constant(64))),
  }),
  attentionCase('global tokens and a window', {
    N: 140,
    D: 8,
    mask: or(local(4, 4), or(le(key, constant(1)), le(query, constant(1)))),
  }),
  attentionCase('a window that grows with the head', {
    B: 2,
    N: 140,
    H: 4,
    D: 8,
    mask: le(mul(sub(key, query), sub(key, query)), mul(add(head, constant(1)), constant(400))),
  }),
  attentionCase('one head sees the past, the other what comes', {
    N: 90,
    D: 8,
    mask: or(and(eq(head, constant(0)), causal), and(eq(head, constant(1)), not(causal))),
  }),
  attentionCase('rows that see nothing', { N: 70, mask: and(causal, ge(query, constant(3))) }),
  attentionCase('blocks that see nothing', { N: 200, D: 8, mask: and(causal, le(query, constant(70))) }),
  attentionCase('a mask that keeps nothing', { N: 66, D: 8, mask: le(key, constant(-1)) }),
  attentionCase('a mask that keeps everything', { N: 66, D: 8, mask: ge(key, constant(0)) }),
  attentionCase('keys kept only beyond the length', {
    N: 80,
    D: 8,
    lengths: [80, 40],
    mask: ge(key, constant(50)),
  }),
  attentionCase('values of 1e4', { N: 70, factors: [1, 1, 1e4] }),
  attentionCase('scores of 1e8: the largest takes all', { N: 20, factors: [1e4, 1e4, 1] }),
  attentionCase('denormal queries and keys', { N: 20, factors: [1e-40, 1e-40, 1] }),
  attentionCase('scores of zero: the mean', { N: 70, factors: [0, 1, 1] }),
  attentionCase('values of zero', { N: 20, factors: [1, 1, 0] }),
  attentionCase('row statistics', { N: 130, lengths: [130, 40], mask: local(7, 3), statistics: true }),
  ...[
    { query: 16, key: 32 },
    { query: 32, key: 32 },
    { query: 32, key: 64 },
    { query: 64, key: 128 },
  ].map((blocks) =>
    attentionCase(`blocks of ${blocks.query} by ${blocks.key}`, {
      N: 150,
      D: 8,
      lengths: [150, 77],
      mask: local(20, 33),
      blocks,
    }),
  ),
];
