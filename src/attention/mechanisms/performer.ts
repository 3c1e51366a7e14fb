import { stacked } from '../../program/ops/attention.ts';
import { padHead } from '../../program/ops/linear.ts';
import { linearAttention } from '../../program/ops/linear-attention.ts';
import { mechanism } from '../mechanism.ts';

const least = 8;

/**
 * How far random features are from one attention weight exp(q·k/√D), as the expected square of the relative error:
 * (e^{‖x+y‖²} − 1)/m with x, y = q, k over D^¼ (Choromanski et al. 2021, lemma 2). Exact for independent features, a
 * bound for orthogonal ones: measured with m = D, they come to 0.83 of it at ‖x+y‖² = ½ and 0.64 at 3 for D = 64, to
 * 0.89 and 0.77 for D = 8. Above 1 an estimate says nothing about its weight: queries
 * and keys of unit variance at D = 64 have ‖q+k‖²/√D ≈ 16, for which 256 features give 3·10⁴.
 *
 * @param squaredNorm ‖q + k‖² of a query and a key as the layer makes them, measured on the user's own text
 */
export const expectedSquaredError = (squaredNorm: number, headSize: number, features: number): number =>
  Math.expm1(squaredNorm / Math.sqrt(headSize)) / features;

/**
 * FAVOR+: softmax attention by positive random features of its kernel. Unbiased, with an error that grows as the
 * exponential of ‖q + k‖² (`expectedSquaredError`): a model not trained for it seldom has norms this small.
 */
export default mechanism({
  kind: 'performer',
  summary: 'random features of the softmax kernel, O(n)',
  family: 'linear',
  paper: {
    authors:
      'Choromanski, Likhosherstov, Dohan, Song, Gane, Sarlos, Hawkins, Davis, Mohiuddin, Kaiser, et al.',
    title: 'Rethinking Attention with Performers',
    year: 2021,
    url: 'https://arxiv.org/abs/2009.14794',
  },
  options: {
    features: {
      type: 'integer',
      least,
      most: 4096,
      default: 256,
      what: 'random features of a head, a multiple of 8',
    },
    seed: {
      type: 'integer',
      least: 0,
      most: 2 ** 32 - 1,
      default: 1,
      what: 'draws the features; another seed draws others',
    },
    orthogonal: { type: 'boolean', default: true, what: 'features at right angles, of less error' },
    perHead: { type: 'boolean', default: false, what: 'draw features for each head, not one set for all' },
    epsilon: { type: 'number', least: 0, most: 1, default: 1e-6, what: 'added to each feature' },
  },
  needs: { training: 'required', calibration: false, boundedLength: false },
  growth: { time: 'n·features', memory: 'n' },
  exact: false,
  refuse: (_layer, { features }) =>
    features % 8 === 0
      ? null
      : `expected features to be a multiple of 8, got ${features}. Take ${padHead(features)}.`,
  lower({ t, layer: { heads, headSize }, lengths, project, parameter }, { features, perHead, epsilon }) {
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const W = parameter('features', [perHead ? heads : 1, features, padHead(headSize)]);
    const map = { kind: 'performer', epsilon } as const;
    return linearAttention(t, { ...stacked(qkv, heads), lengths }, { heads, headSize, map, features: W });
  },
  async initialise({ layer: { index, heads, headSize } }, { features, seed, orthogonal, perHead }) {
    const { randomDirections } = await import('../initialise/orthogonal.ts');
    const { Random } = await import('../../tensor/random.ts');
    const random = new Random(seed + Math.imul(index, 0x9e3779b1));
    const count = perHead ? heads : 1;
    const pitch = padHead(headSize);
    const data = new Float32Array(count * features * pitch);
    for (let h = 0; h < count; h++) {
      const rows = randomDirections(random, features, headSize, orthogonal); // [m, D]
      for (let i = 0; i < features; i++)
        data.set(rows.subarray(i * headSize, (i + 1) * headSize), (h * features + i) * pitch);
    }
    return new Map([['features', { shape: [count, features, pitch], data }]]);
  },
  examples: [{}, { features: 24, orthogonal: false, perHead: true, seed: 7 }],
  bench: { performer: {}, 'performer-64': { features: 64 } },
});
