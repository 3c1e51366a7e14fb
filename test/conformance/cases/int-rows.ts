import { dyadic, multiplierFor } from '../../../src/program/integer/dyadic.ts';
import { UNIT_BITS } from '../../../src/program/integer/sqrt.ts';
import { dequantize } from '../../../src/program/ops/dequantize.ts';
import { intEmbedding } from '../../../src/program/ops/int-embedding.ts';
import { intL2Normalize } from '../../../src/program/ops/int-l2-normalize.ts';
import { intLayerNorm, NORM_FRACTION, normLimit } from '../../../src/program/ops/int-layer-norm.ts';
import { type IntPooling, intPool } from '../../../src/program/ops/int-pool.ts';
import { requantize } from '../../../src/program/ops/requantize.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import type { Random } from '../../../src/tensor/random.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';
import { codesOf } from './int-linear.ts';

type Fill = 'ordinary' | 'small' | 'zero' | 'constant' | 'one large' | 'largest' | 'alternating' | 'offset';

/** Rows of C integers; `most` is what the op allows. */
function integers(random: Random, rows: number, C: number, fill: Fill, most: number): Int32Array {
  const bits = Math.min(16, Math.floor(Math.log2(most)));
  return Int32Array.from({ length: rows * C }, (_, i) => {
    const gaussian = Math.round((random.gaussian() * 2 ** bits) / 8);
    const c = i % C;
    switch (fill) {
      case 'ordinary':
        return gaussian;
      case 'small':
        return random.integer(3) - 1;
      case 'zero':
        return 0;
      case 'constant':
        return 12_345;
      case 'one large':
        return c === 1 ? -most : gaussian >> 6;
      case 'largest':
        return most;
      case 'alternating':
        return c % 2 ? most : -most;
      case 'offset':
        return gaussian - (most >> 1);
    }
  });
}

const FILLS: readonly Fill[] = [
  ...(['ordinary', 'small', 'zero', 'constant', 'one large', 'largest'] as const),
  ...(['alternating', 'offset'] as const),
];

interface NormOptions {
  N?: number;
  C?: number;
  fill?: Fill;
  epsilon?: number;
  zeroPoint?: number;
  /** Largest γ over the codes' scale. */
  gain?: number;
}

function normCase(name: string, options: NormOptions): ConformanceCase {
  const { N = 5, C = 64, fill = 'ordinary', epsilon = 0, zeroPoint = 0, gain = 30 } = options;
  return {
    op: 'intLayerNorm',
    name,
    finite: true,
    codes: false,
    build(random) {
      const factor = (gain * Math.sqrt(C) * 2 ** NORM_FRACTION) / 2 ** UNIT_BITS;
      const { shift } = dyadic(factor);
      return new CaseBuilder(random, { B: 1, N })
        .data('x', integers(random, N, C, fill, normLimit(C)))
        .ints(
          'scale',
          Int32Array.from({ length: C }, () => multiplierFor(factor * random.uniform(), shift)),
        )
        .ints(
          'bias',
          random.integers(C, 20_000).map((b) => b - 10_000),
        )
        .finish((t, input) => [
          intLayerNorm(t, input('x', [symbol('N'), C]), t.parameter('scale'), t.parameter('bias'), {
            epsilon,
            shift,
            zeroPoint,
          }),
        ]);
    },
  };
}

export const intLayerNormCases: ConformanceCase[] = (
  [
    ...FILLS.map((fill): [string, NormOptions] => [`rows ${fill}`, { fill }]),
    ...[1, 2, 3, 5, 31, 384].map((C): [string, NormOptions] => [`${C} columns`, { C }]),
    ...(['alternating', 'largest', 'one large'] as const).map((fill): [string, NormOptions] => [
      `${fill}, 1024 columns`,
      { fill, C: 1024 },
    ]),
    ['ε that counts', { fill: 'small', epsilon: 50 }],
    ['ε of 53 bits', { epsilon: 2 ** 53 - 1 }],
    ['ε beyond 32 bits', { fill: 'zero', epsilon: 2 ** 33 + 3 }],
    ['a zero point', { zeroPoint: -77 }],
    ['codes beyond their ends', { gain: 4000 }],
  ] as [string, NormOptions][]
).map(([name, options]) => normCase(name, options));

export const intL2NormalizeCases: ConformanceCase[] = [
  ...FILLS.map((fill) => [`rows ${fill}`, fill, 64] as const),
  ...[1, 3, 5, 512].map((C) => [`${C} columns`, 'ordinary', C] as const),
].map(([name, fill, C]) => ({
  op: 'intL2Normalize',
  name,
  finite: true,
  codes: false,
  build: (random) =>
    new CaseBuilder(random, { B: 3 })
      .data('x', integers(random, 3, C, fill, 2 ** 25))
      .finish((t, input) => [intL2Normalize(t, input('x', [symbol('B'), C]))]),
}));

export const requantizeCases: ConformanceCase[] = (
  [
    ['ordinary', 64, 'ordinary', 0.01, 0],
    ['ragged, a zero point', 37, 'ordinary', 0.01, -50],
    ['beyond the ends', 8, 'alternating', 0.5, 0],
    ['one column', 1, 'ordinary', 0.003, 0],
  ] as const
).map(([name, C, fill, factor, zeroPoint]) => ({
  op: 'requantize',
  name,
  finite: true,
  codes: false,
  build: (random) =>
    new CaseBuilder(random, { N: 5 })
      .data('x', integers(random, 5, C, fill, 2 ** 25))
      .finish((t, input) => [requantize(t, input('x', [symbol('N'), C]), { ...dyadic(factor), zeroPoint })]),
}));

export const dequantizeCases: ConformanceCase[] = [1, 7, 32].map((C) => ({
  op: 'dequantize',
  name: `${C} columns`,
  finite: true,
  codes: false,
  build: (random) =>
    new CaseBuilder(random, { N: 3 })
      .data('x', integers(random, 3, C, 'ordinary', 2 ** 30))
      .finish((t, input) => [dequantize(t, input('x', [symbol('N'), C]), 2 ** -20)]),
}));

function poolCase(
  name: string,
  pooling: IntPooling,
  C: number,
  lengths: number[],
  zeroPoint = 0,
  fill: Parameters<typeof codesOf>[2] = 'random',
): ConformanceCase {
  const [B, N] = [lengths.length, Math.max(1, ...lengths)];
  return {
    op: 'intPool',
    name: `${pooling}: ${name}`,
    finite: true,
    codes: false,
    build: (random) =>
      new CaseBuilder(random, { B, N })
        .data('x', codesOf(random, B * N * C, fill))
        .data('lengths', Int32Array.from(lengths))
        .finish((t, input) => [
          intPool(t, input('x', [symbol('B'), symbol('N'), C]), input('lengths', [symbol('B')]), {
            pooling,
            zeroPoint,
          }),
        ]),
  };
}

export const intPoolCases: ConformanceCase[] = (['mean', 'first', 'max'] as const).flatMap((pooling) => [
  poolCase('ordinary', pooling, 64, [9, 4, 1]),
  poolCase('ragged, a zero point, no rows', pooling, 7, [5, 0, 3], -30),
  poolCase('one column', pooling, 1, [3]),
  poolCase('lowest codes', pooling, 8, [600], 127, 'lowest'),
]);

function embeddingCase(
  name: string,
  C: number,
  { positions = 0, tokenTypes = 0, N = 9, shift = 30 } = {},
): ConformanceCase {
  return {
    op: 'intEmbedding',
    name,
    finite: true,
    codes: false,
    build(random) {
      const builder = new CaseBuilder(random, { B: 2, N }).data('ids', random.integers(2 * N, 11));
      const table = (part: string, rows: number) =>
        builder
          .codes(part, [rows, C], codesOf(random, rows * C, 'random', -127))
          .ints(`${part} multiplier`, random.integers(rows, 2 ** 31 - 1));
      table('word', 11);
      if (positions) table('position', positions);
      if (tokenTypes) table('type', tokenTypes).data('types', random.integers(2 * N, tokenTypes));
      return builder.finish((t, input) => {
        const shape = [symbol('B'), symbol('N')];
        const of = (part: string) => ({
          codes: t.parameter(part),
          multiplier: t.parameter(`${part} multiplier`),
        });
        return [
          intEmbedding(
            t,
            input('ids', shape),
            tokenTypes ? input('types', shape) : null,
            {
              word: of('word'),
              position: positions ? of('position') : undefined,
              tokenType: tokenTypes ? of('type') : undefined,
            },
            shift,
          ),
        ];
      });
    },
  };
}

export const intEmbeddingCases: ConformanceCase[] = [
  embeddingCase('words alone', 32),
  embeddingCase('positions', 32, { positions: 9 }),
  embeddingCase('positions that wrap', 8, { positions: 4 }),
  embeddingCase('positions and types', 32, { positions: 12, tokenTypes: 2 }),
  embeddingCase('types alone', 16, { tokenTypes: 3 }),
  embeddingCase('ragged columns', 7, { positions: 9, tokenTypes: 2 }),
  embeddingCase('one column, a small shift', 1, { positions: 9, tokenTypes: 2, shift: 16 }),
];
