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

/** What both precisions must get right. */
const SHARED: readonly [string, Options][] = [
  ['ordinary', { B: 2, N: 40, H: 3 }],
  ...[1, 12, 20, 40, 64].map((D): [string, Options] => [`heads of ${D}`, { B: 2, N: 21, D }]),
  ...[1, 3, 8, 17, 64, 65, 130].map((N): [string, Options] => [`${N} tokens`, { N, D: 8 }]),
  ['keys of other columns than values', { N: 70, D: 20, keySize: 44 }],
  ['four heads that share two heads of keys', { B: 2, N: 70, H: 4, keyHeads: 2 }],
  ['more keys than queries', { N: 9, S: 90 }],
  ['keys that are a weight', { B: 2, N: 40, stored: true }],
  ['lengths on both sides of a block, and none', { N: 140, D: 8, lengths: [0, 1, 64, 65, 129] }],
  ['local window, lengths short of it', { N: 150, D: 26, lengths: [150, 20, 64], mask: local(5, 9) }],
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
  ['values of 1e4', { N: 70, factors: [1, 1, 1e4] }],
  ['scores of 1e8: the largest takes all', { N: 20, factors: [1e4, 1e4, 1] }],
  ['denormal queries, rows that see nothing', { N: 20, factors: [0, 1e-40, 1], mask: local(-2, 4) }],
  ['keys of zero: the mean', { N: 70, factors: [1, 0, 1] }],
  ...[
    { query: 16, key: 32 },
    { query: 64, key: 128 },
  ].map((blocks): [string, Options] => [
    `blocks of ${blocks.query} by ${blocks.key}`,
    { N: 150, D: 8, lengths: [150, 77], mask: local(20, 33), blocks },
  ]),
];

/** Queries and keys, held to float32's own errors. */
const SCORES: readonly [string, Options][] = [
  ...[3, 8, 32].map((D): [string, Options] => [`heads of ${D}`, { N: 21, D }]),
  ['another scale', { scale: 1 }],
  ['keys with a large offset', { N: 100, keyOffset: 100 }],
  ['queries of 1e4', { N: 70, factors: [1e4, 1, 1] }],
  ['denormal queries and keys', { N: 20, factors: [1e-40, 1e-40, 1] }],
  ['queries of zero: the mean', { N: 70, factors: [0, 1, 1] }],
];

/** Weights and values. */
const VALUES: readonly [string, Options][] = [
  ...[2, 7, 15, 16, 63, 80].map((N): [string, Options] => [`${N} tokens`, { N, D: 8 }]),
  ['fewer keys than queries', { N: 90, S: 9, D: 16 }],
  ['a batch without keys', { N: 5, lengths: [0, 0] }],
  ['causal', { N: 131, D: 20, mask: causal }],
  ['strided', { N: 100, D: 8, mask: eq(mod(sub(key, query), constant(7)), constant(0)) }],
  ['blocks that see nothing', { N: 200, D: 8, mask: and(causal, le(query, constant(70))) }],
  ['a mask that keeps nothing', { N: 66, D: 8, mask: le(key, constant(-1)) }],
  ['keys kept only beyond the length', { N: 80, D: 8, lengths: [80, 40], mask: ge(key, constant(50)) }],
  ['values of zero', { N: 20, factors: [1, 1, 0] }],
];

export const integerAttentionCases: ConformanceCase[] = [
  ...[...SHARED, ...SCORES].map(([name, options]) => integerCase('int8-scores', name, options)),
  ...[...SHARED, ...VALUES].map(([name, options]) => integerCase('int8', name, options)),
];
