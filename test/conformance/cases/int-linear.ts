import { dyadic } from '../../../src/program/integer/dyadic.ts';
import { geluConstants, MOST_FRACTION } from '../../../src/program/integer/gelu.ts';
import { intLinear } from '../../../src/program/ops/int-linear.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import type { Random } from '../../../src/tensor/random.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  N?: number;
  K?: number;
  C?: number;
  /** Codes of x and of the weights. */
  codes?: 'random' | 'lowest' | 'highest' | 'zero' | 'some zero rows';
  /** What the product is brought to, as a factor on a spread of about 40. */
  factor?: number;
  gelu?: number;
  relu?: boolean;
  zeroPoint?: number;
  /** A sum in place of codes. */
  limit?: number;
  residual?: 'int8' | 'int32';
}

/** Codes from −128 to 127, of weights from −127. */
export function codesOf(random: Random, count: number, fill: Options['codes'], least = -128): Int8Array {
  if (fill === 'lowest') return new Int8Array(count).fill(least);
  if (fill === 'highest') return new Int8Array(count).fill(127);
  if (fill === 'zero') return new Int8Array(count);
  const codes = Int8Array.from(random.integers(count, 128 - least), (code) => code + least);
  return fill === 'some zero rows' ? codes.map((code, i) => (Math.floor(i / 5) % 3 ? code : 0)) : codes;
}

function intLinearCase(name: string, options: Options): ConformanceCase {
  const { N = 7, K = 48, C = 20, codes = 'random', factor = 1, zeroPoint = 0, limit, residual } = options;
  return {
    op: 'intLinear',
    name,
    finite: true,
    codes: false,
    build(random) {
      // A product of random codes spreads by about 74² √K.
      const fraction = options.gelu;
      const unit = fraction ? 2 ** fraction : limit ? 1000 : 40;
      const { multiplier, shift } = dyadic((factor * unit) / (74 * 74 * Math.sqrt(K)));
      const spread = random.integers(C, 1000);
      const builder = new CaseBuilder(random, { B: 1, N })
        .data('x', codesOf(random, N * K, codes))
        .codes('w', [C, K], codesOf(random, C * K, codes, -127))
        .ints(
          'bias',
          random.integers(C, 200_000).map((b) => b - 100_000),
        )
        .ints(
          'multiplier',
          Int32Array.from(spread, (s) => Math.floor(multiplier / (1 + s / 200))),
        );
      if (residual === 'int8') builder.data('residual', codesOf(random, N * C, 'random'));
      if (residual === 'int32')
        builder.data(
          'residual',
          random.integers(N * C, 2 ** 20).map((r) => r - 2 ** 19),
        );
      const constants = fraction ? geluConstants(fraction) : null;
      const low = options.relu ? zeroPoint : -128;
      return builder.finish((t, input) => [
        intLinear(
          t,
          input('x', [symbol('N'), K]),
          {
            weight: t.parameter('w'),
            bias: t.parameter('bias'),
            multiplier: t.parameter('multiplier'),
          },
          {
            shift,
            output: limit === undefined ? { kind: 'codes', zeroPoint, low } : { kind: 'sum', limit },
            gelu: constants && { ...constants, ...dyadic(constants.scale / 0.02) },
            residual: residual && {
              value: input('residual', [symbol('N'), C]),
              ...dyadic(residual === 'int8' ? 77.7 : 0.9),
              zeroPoint: residual === 'int8' ? -3 : 0,
            },
          },
        ),
      ]);
    },
  };
}

const LIMIT = 2 ** 21;

export const intLinearCases: ConformanceCase[] = (
  [
    ['ordinary', {}],
    ...[1, 2, 3, 4, 5, 6, 13].map((N): [string, Options] => [`${N} rows`, { N }]),
    ...[1, 3, 4, 5, 31].map((C): [string, Options] => [`${C} columns out`, { C }]),
    ...[1, 2, 15, 16, 17, 31, 100].map((K): [string, Options] => [`${K} columns in`, { K }]),
    ['a deep product', { K: 3072, N: 4, C: 6 }],
    ['codes at their lowest', { codes: 'lowest', K: 1536, N: 3 }],
    ['codes at their highest', { codes: 'highest', K: 1536, N: 3 }],
    ['codes of zero', { codes: 'zero' }],
    ['rows with zeros', { codes: 'some zero rows' }],
    ['most codes beyond the ends', { factor: 100 }],
    ['a factor that leaves little', { factor: 1e-3 }],
    ['a zero point', { zeroPoint: -100 }],
    ['ReLU', { relu: true, zeroPoint: -128 }],
    ['ReLU about another zero', { relu: true, zeroPoint: 17 }],
    ['GELU', { gelu: MOST_FRACTION, zeroPoint: -90 }],
    ['GELU with fewer bits', { gelu: 7, zeroPoint: -90, K: 17, C: 7 }],
    ['GELU with fewest bits', { gelu: 6, zeroPoint: -90 }],
    ['GELU beyond 16 bits', { gelu: MOST_FRACTION, zeroPoint: -90, factor: 100 }],
    ['a sum', { limit: LIMIT, C: 7 }],
    ['a sum beyond its limit', { limit: 500 }],
    ['a sum with codes', { limit: LIMIT, residual: 'int8', C: 7 }],
    ['a sum with integers', { limit: LIMIT, residual: 'int32', C: 7 }],
    ['a sum with integers, one column', { limit: LIMIT, residual: 'int32', C: 1, N: 5 }],
    ['a sum with codes, one column', { limit: LIMIT, residual: 'int8', C: 1, N: 5 }],
  ] as [string, Options][]
).map(([name, options]) => intLinearCase(name, options));
