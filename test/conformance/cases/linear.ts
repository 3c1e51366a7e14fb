import type { Activation } from '../../../src/program/ops/activation.ts';
import { linear, padHead } from '../../../src/program/ops/linear.ts';
import { quantizedPitch, quantizeRows } from '../../../src/program/ops/quantize-rows.ts';
import type { Codec } from '../../../src/tensor/codec.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase, type Fill, filled } from '../case.ts';

interface LinearOptions {
  B?: number;
  N?: number;
  /** Input columns. */
  K?: number;
  /** Rows of each weight; with `heads`, heads · head size. */
  C?: number;
  parts?: number;
  codec?: Codec;
  activation?: Activation;
  /** Heads of each part, or of each in turn. */
  heads?: { count: number | readonly number[]; size: number };
  residual?: boolean;
  x?: Fill;
  w?: Fill;
}

function linearCase(name: string, options: LinearOptions): ConformanceCase {
  const { B = 1, N = 5, K = 24, parts = 1, codec = 'float32', x = 'gaussian', heads } = options;
  const rows = Array.from({ length: parts }, (_, p) => {
    if (!heads) return options.C ?? 16;
    return (typeof heads.count === 'number' ? heads.count : heads.count[p]) * heads.size;
  });
  const allRows = rows.reduce((a, b) => a + b);
  return {
    op: 'linear',
    name: `${codec}: ${name}`,
    finite: x !== 'with NaN',
    codes: false,
    build(random) {
      const builder = new CaseBuilder(random, { B, N }).data('x', filled(random, B * N * K, x, K));
      const shape = heads
        ? [allRows / heads.size, symbol('B'), symbol('N'), padHead(heads.size)]
        : [symbol('B'), symbol('N'), allRows];
      if (options.residual) {
        const padded = heads ? padHead(heads.size) : 1;
        const size = heads ? (allRows / heads.size) * padded : allRows;
        // The padding of a head is zero wherever heads are laid out.
        const values = random
          .gaussians(B * N * size)
          .map((v, i) => (heads && i % padded >= heads.size ? 0 : v));
        builder.data('residual', values);
      }
      for (const [p, C] of rows.entries())
        builder
          .weight(`w${p}`, codec, [C, K], options.w && filled(random, C * K, options.w, K))
          .weight(`b${p}`, 'float32', [C], random.gaussians(C, 0.5));
      const each = Array.from({ length: parts }, (_, p) => p);
      return builder.finish((t, input) => [
        linear(
          t,
          input('x', [symbol('B'), symbol('N'), K]),
          each.map((p) => t.parameter(`w${p}`)),
          each.map((p) => t.parameter(`b${p}`)),
          {
            activation: options.activation,
            heads,
            residual: options.residual ? input('residual', shape) : undefined,
          },
        ),
      ]);
    },
  };
}

const CODECS: Codec[] = ['float32', 'float16', 'bfloat16', 'int8'];
const HEAD_SIZES = [8, 20, 26, 32, 64];

export const linearCases: ConformanceCase[] = [
  ...CODECS.flatMap((codec) => [
    linearCase('ordinary', { codec, B: 2, N: 9, K: 64, C: 48 }),
    linearCase('K and C not multiples of 4, 8 or 16', { codec, N: 7, K: 27, C: 19 }),
    linearCase('one row', { codec, N: 1, K: 40, C: 33 }),
    linearCase('one row, one column', { codec, N: 1, K: 1, C: 1 }),
    linearCase('three parts laid out by head', {
      codec,
      B: 2,
      N: 6,
      K: 48,
      parts: 3,
      heads: { count: 3, size: 16 },
    }),
    linearCase('a residual', { codec, B: 2, N: 5, K: 30, C: 22, residual: true, activation: 'gelu' }),
  ]),
  ...(['float16', 'bfloat16'] as const).flatMap((codec) => [
    ...[2, 4, 5, 6, 7, 12, 13].map((N) => linearCase(`${N} rows`, { codec, N, K: 20, C: 18 })),
    ...[1, 7, 8, 31, 65].map((C) => linearCase(`${C} output columns`, { codec, C })),
    linearCase('a long inner product', { codec, N: 3, K: 1536, C: 24 }),
    linearCase('many rows', { codec, B: 3, N: 67, K: 32, C: 40 }),
    linearCase('heads of 20', { codec, B: 2, N: 5, K: 40, parts: 3, heads: { count: 2, size: 20 } }),
    linearCase('weight rows of zeros', { codec, w: 'some zero' }),
    linearCase('denormal weights', { codec, w: 'denormal' }),
    linearCase('weights of 1e4', { codec, w: 'large' }),
  ]),
  ...(['float32', 'int8'] as const).flatMap((codec) => [
    ...(['none', 'gelu', 'geluTanh', 'relu', 'tanh'] as const).map((activation) =>
      linearCase(`activation ${activation}`, { codec, N: 6, K: 32, C: 21, activation }),
    ),
    ...HEAD_SIZES.map((size) =>
      linearCase(`heads of ${size}`, { codec, B: 2, N: 5, K: 40, parts: 3, heads: { count: 2, size } }),
    ),
    ...[2, 3, 4, 5, 6, 7, 8, 11, 13, 17].map((N) => linearCase(`${N} rows`, { codec, N, K: 20, C: 18 })),
    ...[1, 3, 4, 8, 15, 16, 17, 31, 33].map((K) => linearCase(`${K} input columns`, { codec, K, C: 10 })),
    ...[1, 3, 4, 7, 8, 12, 23, 24, 31, 65].map((C) => linearCase(`${C} output columns`, { codec, C })),
    linearCase('two parts', { codec, N: 4, C: 13, parts: 2 }),
    linearCase('four heads on two pairs of others', {
      codec,
      N: 9,
      parts: 3,
      heads: { count: [4, 2, 1], size: 20 },
    }),
    linearCase('heads with a residual', { codec, heads: { count: 2, size: 20 }, residual: true }),
    linearCase('a long inner product', { codec, N: 3, K: 1536, C: 24 }),
    linearCase('many rows', { codec, B: 3, N: 67, K: 32, C: 40 }),
    linearCase('inputs of 1e4', { codec, x: 'large' }),
    linearCase('denormal inputs', { codec, x: 'denormal' }),
    linearCase('constant rows', { codec, x: 'constant' }),
    linearCase('rows of zeros among others', { codec, N: 9, x: 'some zero' }),
    linearCase('all zeros', { codec, x: 'zero' }),
    linearCase('inputs of one sign', { codec, x: 'large negative' }),
    linearCase('weight rows of zeros', { codec, w: 'some zero' }),
    linearCase('gelu of 1e4', { codec, x: 'large', activation: 'gelu' }),
  ]),
  linearCase('NaN reaches its own rows alone', { x: 'with NaN', N: 6, K: 3 }),
];

function quantizeCase(name: string, N: number, K: number, x: Fill = 'gaussian'): ConformanceCase {
  return {
    op: 'quantizeRows',
    name,
    finite: true,
    codes: true,
    build: (random) =>
      new CaseBuilder(random, { B: 2, N })
        .data('x', filled(random, 2 * N * K, x, K))
        .finish((t, input) => [...quantizeRows(t, input('x', [symbol('B'), symbol('N'), K]))]),
  };
}

export const quantizeRowsCases: ConformanceCase[] = [
  quantizeCase('ordinary', 7, 64),
  ...[1, 3, 4, 7, 12, 15, 16, 17, 30, 33].map((K) =>
    quantizeCase(`${K} columns in a pitch of ${quantizedPitch(K)}`, 3, K),
  ),
  quantizeCase('one row', 1, 20),
  quantizeCase('inputs of 1e4', 4, 20, 'large'),
  quantizeCase('inputs of one sign', 4, 20, 'large negative'),
  quantizeCase('constant rows', 4, 20, 'constant'),
  quantizeCase('rows of zeros among others', 7, 20, 'some zero'),
  quantizeCase('all zeros', 2, 20, 'zero'),
  quantizeCase('denormal inputs', 2, 20, 'denormal'),
];
