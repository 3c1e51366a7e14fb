import { local } from '../../../src/attention/pattern/window.ts';
import {
  add,
  and,
  constant,
  eq,
  ge,
  head,
  key,
  le,
  type MaskExpression,
  mod,
  mul,
  query,
  sub,
} from '../../../src/program/mask/expression.ts';
import {
  INTEGER_BUDGETS,
  type IntegerPrecision,
  integerAttention,
} from '../../../src/program/ops/integer-attention.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { type DimLike, symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  B?: number;
  /** Queries, and keys where there are as many. */
  N?: number;
  /** Keys. */
  S?: number;
  H?: number;
  keyHeads?: number;
  /** Columns of a value, and of a key where they are as many. */
  D?: number;
  keySize?: number;
  scale?: number;
  lengths?: number[];
  mask?: MaskExpression;
  blocks?: { query: number; key: number };
  /** Factors on queries, keys and values. */
  factors?: [number, number, number];
  /** What all keys have in common. */
  keyOffset?: number;
  /** Keys that are a weight. */
  stored?: boolean;
}

function integerCase(precision: IntegerPrecision, name: string, options: Options): ConformanceCase {
  const { N = 17, H = 2, D = 32, mask = null, factors = [1, 1, 1], keyOffset = 0 } = options;
  const { S = N, keyHeads = H, keySize = D } = options;
  const B = options.lengths?.length ?? options.B ?? 1;
  return {
    op: 'integerAttention',
    name: `${precision}: ${name}`,
    finite: true,
    codes: false,
    budget: INTEGER_BUDGETS[precision],
    build(random) {
      const padded = (heads: number, rows: number, size: number, factor: number, offset = 0) =>
        random
          .gaussians(heads * rows * padHead(size))
          .map((v, i) => (i % padHead(size) < size ? v * factor + offset : 0));
      const builder = new CaseBuilder(random, { B, N })
        .data('q', padded(H * B, N, keySize, factors[0]))
        .data('v', padded(keyHeads * B, S, D, factors[2]))
        .data('lengths', Int32Array.from(options.lengths ?? Array(B).fill(S)));
      const keys = padded(keyHeads * (options.stored ? 1 : B), S, keySize, factors[1], keyOffset);
      if (options.stored) builder.weight('k', 'float32', [keyHeads, S, padHead(keySize)], keys);
      else builder.data('k', keys);
      return builder.finish((t, input) => {
        const heads = (name: string, count: number, rows: DimLike, size: number) => ({
          value: input(name, [count, symbol('B'), rows, padHead(size)]),
          from: 0,
        });
        const rows = S === N ? symbol('N') : S;
        const q = heads('q', H, symbol('N'), keySize);
        const v = heads('v', keyHeads, rows, D);
        const k = options.stored
          ? { parameter: t.parameter('k'), from: 0 }
          : heads('k', keyHeads, rows, keySize);
        return [
          integerAttention(
            t,
            { queries: q, keys: k, values: v, lengths: input('lengths', [symbol('B')]) },
            {
              heads: H,
              keyHeads,
              headSize: D,
              keySize,
              scale: options.scale ?? 1 / Math.sqrt(keySize),
              mask,
              blocks: options.blocks,
              precision,
            },
          ),
        ];
      });
    },
  };
}

const causal = le(key, query);

const CASES: readonly [string, Options][] = [
  ['ordinary', { B: 2, N: 40, H: 3 }],
  ...[1, 3, 8, 12, 20, 32, 40, 64].map((D): [string, Options] => [`heads of ${D}`, { B: 2, N: 21, D }]),
  ...[1, 2, 3, 7, 8, 15, 17, 63, 64, 65, 80, 130].map((N): [string, Options] => [`${N} tokens`, { N, D: 8 }]),
  ['keys of other columns than values', { N: 70, D: 20, keySize: 44 }],
  ['other scale', { scale: 1 }],
  ['four heads that share two heads of keys', { B: 2, N: 70, H: 4, keyHeads: 2 }],
  ['three heads that share one head of keys', { N: 33, H: 3, keyHeads: 1, D: 24 }],
  ['more keys than queries', { N: 9, S: 90 }],
  ['fewer keys than queries', { N: 90, S: 9, D: 16 }],
  ['keys that are a weight', { B: 2, N: 40, stored: true }],
  ['lengths shorter than N, and none', { N: 70, lengths: [70, 33, 1, 0] }],
  ['lengths on both sides of a block', { N: 140, D: 8, lengths: [63, 64, 65, 128, 129] }],
  ['a batch without keys', { N: 5, lengths: [0, 0] }],
  ['local window', { N: 150, D: 26, mask: local(5, 9) }],
  ['local window, lengths short of it', { N: 150, D: 8, lengths: [150, 20, 64], mask: local(3, 3) }],
  ['window of the token itself', { N: 66, D: 8, mask: local(0, 0) }],
  ['causal', { N: 131, D: 20, mask: causal }],
  ['strided', { N: 100, D: 8, mask: eq(mod(sub(key, query), constant(7)), constant(0)) }],
  [
    'a window that grows with the head',
    {
      B: 2,
      N: 140,
      H: 4,
      D: 8,
      mask: le(mul(sub(key, query), sub(key, query)), mul(add(head, constant(1)), constant(400))),
    },
  ],
  ['rows that see nothing', { N: 70, mask: and(causal, ge(query, constant(3))) }],
  ['blocks that see nothing', { N: 200, D: 8, mask: and(causal, le(query, constant(70))) }],
  ['a mask that keeps nothing', { N: 66, D: 8, mask: le(key, constant(-1)) }],
  ['keys kept only beyond the length', { N: 80, D: 8, lengths: [80, 40], mask: ge(key, constant(50)) }],
  ['keys with a large offset', { N: 100, keyOffset: 100 }],
  ['values of 1e4', { N: 70, factors: [1, 1, 1e4] }],
  ['queries of 1e4', { N: 70, factors: [1e4, 1, 1] }],
  ['scores of 1e8: the largest takes all', { N: 20, factors: [1e4, 1e4, 1] }],
  ['denormal queries and keys', { N: 20, factors: [1e-40, 1e-40, 1] }],
  ['denormal queries, rows that see nothing', { N: 20, factors: [0, 1e-40, 1], mask: local(-2, 4) }],
  ['queries of zero: the mean', { N: 70, factors: [0, 1, 1] }],
  ['keys of zero: the mean', { N: 70, factors: [1, 0, 1] }],
  ['values of zero', { N: 20, factors: [1, 1, 0] }],
  ...[
    { query: 16, key: 32 },
    { query: 32, key: 64 },
    { query: 64, key: 128 },
  ].map((blocks): [string, Options] => [
    `blocks of ${blocks.query} by ${blocks.key}`,
    { N: 150, D: 8, lengths: [150, 77], mask: local(20, 33), blocks },
  ]),
];

export const integerAttentionCases: ConformanceCase[] = (['int8-scores', 'int8'] as const).flatMap(
  (precision) => CASES.map(([name, options]) => integerCase(precision, name, options)),
);
