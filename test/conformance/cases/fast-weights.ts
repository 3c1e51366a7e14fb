import { stacked } from '../../../src/program/ops/attention.ts';
import { type FastWeightFeature, fastWeights } from '../../../src/program/ops/fast-weights.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  B?: number;
  N?: number;
  H?: number;
  D?: number;
  feature?: FastWeightFeature;
  beta?: number;
  causal?: boolean;
  lengths?: number[];
  /** Factors on queries, keys and values. */
  factors?: [number, number, number];
}

function fastWeightsCase(name: string, options: Options): ConformanceCase {
  const { N = 20, H = 2, D = 8, feature = 'elu', beta = 0.5, causal = false, factors = [1, 1, 1] } = options;
  const B = options.lengths?.length ?? options.B ?? 1;
  const pitch = padHead(D);
  return {
    op: 'fastWeights',
    name,
    finite: true,
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
          fastWeights(
            t,
            {
              ...stacked(input('qkv', [3 * H, symbol('B'), symbol('N'), pitch]), H),
              lengths: input('lengths', [symbol('B')]),
            },
            { heads: H, headSize: D, feature, beta, causal },
          ),
        ]);
    },
  };
}

export const fastWeightsCases: ConformanceCase[] = [
  ...[false, true].flatMap((causal) => {
    const how = causal ? 'causal' : 'whole';
    return [
      fastWeightsCase(`${how}, ordinary`, { causal, B: 2, H: 3 }),
      fastWeightsCase(`${how}, relu`, { causal, feature: 'relu' }),
      fastWeightsCase(`${how}, beta of 1`, { causal, beta: 1, N: 60 }),
      fastWeightsCase(`${how}, beta of 0`, { causal, beta: 0 }),
      fastWeightsCase(`${how}, lengths short of N`, { causal, N: 98, H: 1, lengths: [98, 49, 1, 0, 95] }),
      fastWeightsCase(`${how}, values of 1e4`, { causal, factors: [1, 1, 1e4] }),
      fastWeightsCase(`${how}, keys of 1e6`, { causal, factors: [1, 1e6, 1] }),
      fastWeightsCase(`${how}, relu of zeros`, { causal, feature: 'relu', factors: [0, 0, 1] }),
      ...[1, 3, 20, 26, 32, 64].map((D) => fastWeightsCase(`${how}, heads of ${D}`, { causal, D })),
      ...[1, 2, 7, 47, 48, 49, 97].map((N) => fastWeightsCase(`${how}, ${N} tokens`, { causal, N, H: 1 })),
    ];
  }),
];
