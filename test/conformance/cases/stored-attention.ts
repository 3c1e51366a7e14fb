import { padHead } from '../../../src/program/ops/linear.ts';
import { storedAttention } from '../../../src/program/ops/stored-attention.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface StoredOptions {
  N?: number;
  H?: number;
  D?: number;
  from?: number;
  /** Longest sequence of the weights, by default N. */
  most?: number;
  lengths?: number[];
  codec?: 'float32' | 'float16' | 'int8';
  factor?: number;
  /** Root of a pair's weight from its place in the matrix and a uniform number; by default the number. */
  root?: (q: number, k: number, uniform: number) => number;
}

function storedCase(name: string, options: StoredOptions): ConformanceCase {
  const { N = 40, H = 2, D = 32, from = 0, most = N, lengths = [N], factor = 1 } = options;
  const { codec = 'float32', root = (_q, _k, u) => u } = options;
  const pitch = padHead(D);
  return {
    op: 'storedAttention',
    name,
    finite: true,
    codes: false,
    build(random) {
      const B = lengths.length;
      const v = random.gaussians((from + H) * B * N * pitch).map((x, i) => (i % pitch >= D ? 0 : x * factor));
      const roots = Float32Array.from({ length: H * most * most }, (_, i) =>
        root(Math.floor(i / most) % most, i % most, random.uniform()),
      );
      return new CaseBuilder(random, { B, N })
        .data('v', v)
        .data('lengths', Int32Array.from(lengths))
        .weight('p', codec, [H, most, most], roots)
        .finish((t, input) => [
          storedAttention(
            t,
            t.parameter('p'),
            { value: input('v', [from + H, symbol('B'), symbol('N'), pitch]), from },
            input('lengths', [symbol('B')]),
            { heads: H, headSize: D },
          ),
        ]);
    },
  };
}

const peaked = (q: number, k: number, u: number) => Math.exp(-Math.abs(q - k) * u);

export const storedAttentionCases: ConformanceCase[] = [
  storedCase('ordinary', { N: 70 }),
  storedCase('int8', { N: 70, codec: 'int8' }),
  storedCase('float16', { codec: 'float16' }),
  ...[1, 3, 8, 20, 64].map((D) => storedCase(`heads of ${D}`, { D, N: 21, codec: 'int8' })),
  ...[1, 2, 3, 7, 8, 9, 63, 64, 65, 130].map((N) => storedCase(`${N} tokens`, { N, D: 8 })),
  ...[1, 5, 64, 65, 130].map((N) => storedCase(`${N} tokens in int8`, { N, D: 8, codec: 'int8' })),
  storedCase('lengths shorter than N, and none', { N: 70, lengths: [70, 64, 33, 1, 0] }),
  storedCase('the same in int8', { N: 70, lengths: [70, 64, 33, 1, 0], codec: 'int8' }),
  storedCase('weights for longer sequences', { N: 33, most: 100, lengths: [33, 9] }),
  storedCase('weights for longer sequences in int8', { N: 33, most: 101, lengths: [33, 9], codec: 'int8' }),
  storedCase('values further on', { H: 3, from: 2, lengths: [40, 12] }),
  storedCase('peaks', { N: 90, root: peaked, codec: 'int8', lengths: [90, 30] }),
  storedCase('tiny weights', { root: (q, k, u) => peaked(q, k, u) * 1e-15 }),
  storedCase('roots of both signs', { root: (_q, _k, u) => u - 0.5 }),
  storedCase('weights of zero', { root: () => 0 }),
  storedCase('all weight behind the length', { root: (_q, k) => (k > 20 ? 1 : 0), lengths: [20, 40] }),
  storedCase('values of 1e4', { factor: 1e4, codec: 'int8' }),
  storedCase('values of zero', { factor: 0 }),
];
