import { stacked } from '../../../src/program/ops/attention.ts';
import type { FeatureMap } from '../../../src/program/ops/feature-maps.ts';
import { padHead } from '../../../src/program/ops/linear.ts';
import { linearAttention } from '../../../src/program/ops/linear-attention.ts';
import { symbol } from '../../../src/tensor/dim.ts';
import { CaseBuilder, type ConformanceCase } from '../case.ts';

interface Options {
  B?: number;
  N?: number;
  H?: number;
  D?: number;
  /** Rows of W, of maps that have one. */
  m?: number;
  /** One W for each head instead of one for all. */
  perHead?: boolean;
  /** One for each sequence; by default N. */
  lengths?: number[];
  /** Factors on queries, keys and values. */
  factors?: [number, number, number];
  /** Factor on keys by their position: the stabiliser of the keys grows along the sequence. */
  rising?: boolean;
}

const performer: FeatureMap = { kind: 'performer', epsilon: 1e-4 };
const hedgehog: FeatureMap = { kind: 'hedgehog', normalise: false };
const halves: FeatureMap = { kind: 'hedgehog', normalise: true };
const relu: FeatureMap = { kind: 'relu' };
const cosformer: FeatureMap = { kind: 'cosformer', maxLength: 200 };

const nameOf = (map: FeatureMap): string =>
  map.kind === 'hedgehog' && map.normalise ? 'hedgehog of softmaxes' : map.kind;

function linearCase(name: string, map: FeatureMap, options: Options): ConformanceCase {
  const { N = 17, H = 2, D = 32, m = 32, perHead = false, factors = [1, 1, 1], rising = false } = options;
  const B = options.lengths?.length ?? options.B ?? 1;
  const pitch = padHead(D);
  const projected = map.kind === 'performer' || map.kind === 'hedgehog';
  return {
    op: 'linearAttention',
    name: `${nameOf(map)}, ${name}`,
    finite: true,
    codes: false,
    build(random) {
      const perPart = H * B * N * pitch;
      const qkv = random.gaussians(3 * perPart).map((v, i) => {
        const part = Math.floor(i / perPart);
        const rise = rising && part === 1 ? 0.2 + (Math.floor(i / pitch) % N) / N : 1;
        return i % pitch >= D ? 0 : v * factors[part] * rise;
      });
      const builder = new CaseBuilder(random, { B, N })
        .data('qkv', qkv)
        .data('lengths', Int32Array.from(options.lengths ?? Array(B).fill(N)));
      if (projected) {
        // Rows of unit variance for the softmax kernel; small ones for learned maps.
        const shape = [perHead ? H : 1, m, pitch];
        const deviation = map.kind === 'performer' ? 1 : 1 / Math.sqrt(D);
        builder.weight('w', 'float32', shape, random.gaussians(shape[0] * m * pitch, deviation));
      }
      return builder.finish((t, input) => [
        linearAttention(
          t,
          {
            ...stacked(input('qkv', [3 * H, symbol('B'), symbol('N'), pitch]), H),
            lengths: input('lengths', [symbol('B')]),
          },
          { heads: H, headSize: D, map, features: projected ? t.parameter('w') : undefined },
        ),
      ]);
    },
  };
}

const MAPS = [performer, hedgehog, halves, relu, cosformer];

export const linearAttentionCases: ConformanceCase[] = [
  ...MAPS.flatMap((map) => [
    linearCase('ordinary', map, { B: 2, N: 20, H: 3 }),
    linearCase('lengths shorter than N, and none', map, { N: 98, D: 8, H: 1, lengths: [98, 49, 1, 0] }),
    linearCase('lengths on both sides of a block', map, { N: 60, D: 8, H: 1, lengths: [47, 48, 49] }),
    linearCase('values of 1e4', map, { N: 50, D: 8, factors: [1, 1, 1e4] }),
    linearCase('queries and keys of zero', map, { N: 60, D: 8, factors: [0, 0, 1] }),
    linearCase('small queries and keys', map, { N: 20, D: 8, factors: [1e-12, 1e-12, 1] }),
  ]),
  ...[performer, relu].map((map) => linearCase('an empty batch of rows', map, { N: 5, lengths: [0, 0] })),
  linearCase('denormal queries and keys', performer, { N: 20, factors: [1e-40, 1e-40, 1] }),
  ...[8, 20, 26, 64].map((D) => linearCase(`heads of ${D}`, performer, { N: 25, D })),
  ...[20, 26].flatMap((D) => [hedgehog, halves, relu].map((map) => linearCase(`heads of ${D}`, map, { D }))),
  ...[1, 2, 3, 5, 47, 48, 49, 95, 97, 145].map((N) =>
    linearCase(`${N} tokens`, performer, { N, D: 8, H: 1, m: 16 }),
  ),
  ...[1, 7, 49].flatMap((N) =>
    [hedgehog, cosformer].map((map) => linearCase(`${N} tokens`, map, { N, D: 8, H: 1, m: 16 })),
  ),
  ...[8, 16, 128, 256].map((m) => linearCase(`${m} features`, performer, { N: 25, m })),
  ...[8, 64].map((m) => linearCase(`${m} features`, hedgehog, { N: 25, m })),
  ...[performer, hedgehog, halves].flatMap((map) => [
    linearCase('features of each head', map, { N: 50, D: 20, perHead: true, lengths: [50, 7] }),
    linearCase('keys that grow along the sequence', map, { N: 150, D: 8, rising: true, factors: [1, 3, 1] }),
    linearCase('large norms', map, { N: 50, D: 20, factors: [4, 4, 1] }),
  ]),
  linearCase('no epsilon', { kind: 'performer', epsilon: 0 }, { N: 60, D: 8 }),
  linearCase('a large epsilon', { kind: 'performer', epsilon: 0.5 }, { D: 8, N: 110, lengths: [110, 60] }),
];
