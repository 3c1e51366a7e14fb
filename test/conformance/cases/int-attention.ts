import { dyadic } from '../../../src/program/integer/dyadic.ts';
import { intAttention } from '../../../src/program/ops/int-attention.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';
import { codesOf } from './int-linear.ts';

interface Options {
  N?: number;
  H?: number;
  D?: number;
  lengths?: number[];
  codes?: Parameters<typeof codesOf>[2];
  /** Real value of a product of codes, before softmax. */
  unit?: number;
  /** Scale of the values over that of the output. */
  value?: number;
  zeroPoint?: number;
}

function intAttentionCase(name: string, options: Options): ConformanceCase {
  const { N = 19, H = 2, D = 16, codes = 'random', unit = 1e-3, value = 1.5, zeroPoint = 0 } = options;
  const lengths = options.lengths ?? [N];
  const B = lengths.length;
  return {
    op: 'intAttention',
    name,
    finite: true,
    codes: false,
    build(random) {
      const builder = new CaseBuilder(random, { B, N }).data('lengths', Int32Array.from(lengths));
      for (const part of ['queries', 'keys', 'values'])
        builder.data(part, codesOf(random, B * N * H * D, codes));
      return builder.finish((t, input) => {
        const shape = [symbol('B'), symbol('N'), H * D];
        const [queries, keys, values] = ['queries', 'keys', 'values'].map((part) => input(part, shape));
        return [
          intAttention(
            t,
            { queries, keys, values, lengths: input('lengths', [symbol('B')]) },
            {
              heads: H,
              headSize: D,
              score: dyadic(unit * Math.LOG2E * 2 ** 12),
              value: dyadic(value, 15),
              zeroPoint,
            },
          ),
        ];
      });
    },
  };
}

export const intAttentionCases: ConformanceCase[] = (
  [
    ['ordinary', { N: 40, H: 3, lengths: [40, 33] }],
    ...[1, 2, 3, 4, 7, 12, 31, 32, 33, 40, 64].map((D): [string, Options] => [`heads of ${D}`, { D }]),
    ...[1, 2, 7, 8, 9, 65, 130].map((N): [string, Options] => [`${N} tokens`, { N, D: 8 }]),
    ['lengths short of it, and none', { N: 20, lengths: [20, 1, 0, 7, 8, 9], zeroPoint: -5 }],
    ['a batch without keys', { N: 5, lengths: [0, 0], zeroPoint: 100 }],
    ['codes at their lowest', { codes: 'lowest' }],
    ['codes at their highest', { codes: 'highest', N: 33 }],
    ['codes of zero: the mean', { codes: 'zero' }],
    ['scores so far apart that the largest takes all', { unit: 1 }],
    ['scores as far apart as can be', { unit: 1e5 }],
    ['scores that hardly differ', { unit: 1e-9 }],
    ['weights about half a unit', { unit: 4e-4, N: 90 }],
    ['output beyond its codes', { value: 40 }],
    ['output of few codes', { value: 0.01, zeroPoint: 3 }],
  ] as [string, Options][]
).map(([name, options]) => intAttentionCase(name, options));
