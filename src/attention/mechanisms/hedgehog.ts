import { stacked } from '../../program/ops/attention.ts';
import { padHead } from '../../program/ops/linear.ts';
import { linearAttention } from '../../program/ops/linear-attention.ts';
import type { Random } from '../../tensor/random.ts';
import { type Calibration, type LayerShape, mechanism } from '../mechanism.ts';

/** Sequences and tokens of one that a map is distilled from. */
const SEQUENCES = 24;
const TOKENS = 192;
const ROWS = 24;
const LEARNING_RATE = 0.02;

const featuresOf = (features: number, headSize: number): number => features || padHead(headSize);

/** Learned features [exp(Wx), exp(−Wx)] of each head, distilled from the layer's own attention on the user's text. */
export default mechanism({
  kind: 'hedgehog',
  summary: 'learned features that mimic softmax attention, O(n)',
  family: 'linear',
  paper: {
    authors: 'Zhang, Bhatia, Kumbong, Ré',
    title: 'The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax Mimicry',
    year: 2024,
    url: 'https://arxiv.org/abs/2402.04347',
  },
  options: {
    features: {
      type: 'integer',
      least: 0,
      most: 1024,
      default: 0,
      what: 'rows of W, a multiple of 8; each gives two features; 0: as many as the head has columns',
    },
    normalise: { type: 'boolean', default: false, what: 'a softmax over each half of the features' },
    steps: {
      type: 'integer',
      least: 0,
      most: 100_000,
      default: 300,
      what: 'steps of distillation for each head, where there is calibration text',
    },
    seed: {
      type: 'integer',
      least: 0,
      most: 2 ** 32 - 1,
      default: 1,
      what: 'draws the order of the samples',
    },
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n·features', memory: 'n' },
  exact: false,
  refuse: (_layer, { features }) =>
    features % 8 === 0
      ? null
      : `expected features to be a multiple of 8, got ${features}. Take ${padHead(features)}.`,
  lower({ t, layer: { heads, headSize }, lengths, project, parameter }, { features, normalise }) {
    const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
    const W = parameter('features', [heads, featuresOf(features, headSize), padHead(headSize)]);
    const map = { kind: 'hedgehog', normalise } as const;
    return linearAttention(t, { ...stacked(qkv, heads), lengths }, { heads, headSize, map, features: W });
  },
  async initialise({ layer, calibration }, { features, normalise, steps, seed }) {
    const { distilFeatures } = await import('../initialise/distil-features.ts');
    const { Random } = await import('../../tensor/random.ts');
    const { heads, headSize: D, index } = layer;
    const [m, pitch] = [featuresOf(features, D), padHead(D)];
    const random = new Random(seed + Math.imul(index, 0x9e3779b1));
    const samples = calibration && steps > 0 ? await gather(calibration, layer) : [];
    const data = new Float32Array(heads * m * pitch);
    for (let h = 0; h < heads; h++) {
      const start = { weights: startingWeights(random, m, D), m, D, normalise };
      const sequences = samples.map((of) => of[h]);
      const options = { steps, learningRate: LEARNING_RATE, rows: ROWS };
      const { weights } = distilFeatures(sequences, start, random, options);
      for (let i = 0; i < m; i++) data.set(weights.subarray(i * D, (i + 1) * D), (h * m + i) * pitch);
    }
    return new Map([['features', { shape: [heads, m, pitch], data }]]);
  },
  examples: [{}, { features: 16, normalise: true }],
  bench: { hedgehog: {} },
});

/** The identity over D^¼, so that exponents have the size of the scores'; rows beyond D are small and random. */
function startingWeights(random: Random, m: number, D: number): Float64Array {
  const scale = D ** -0.25;
  return Float64Array.from({ length: m * D }, (_, i) => {
    const [row, column] = [Math.floor(i / D), i % D];
    if (row < D) return row === column ? scale : 0;
    return (random.gaussian() * scale) / Math.sqrt(D);
  });
}

/** Queries and keys of some sequences, head by head; of a long sequence its first tokens. */
async function gather(calibration: Calibration, { index, heads, headSize: D }: LayerShape) {
  const out: { n: number; queries: Float32Array; keys: Float32Array }[][] = [];
  for await (const { n: length, queries, keys } of calibration.layer(index)) {
    const n = Math.min(length, TOKENS);
    const cut = (data: Float32Array, h: number) => data.slice(h * length * D, (h * length + n) * D);
    out.push(
      Array.from({ length: heads }, (_, h) => ({
        n,
        queries: cut(queries.data, h),
        keys: cut(keys.data, h),
      })),
    );
    if (out.length === SEQUENCES) break;
  }
  return out;
}
