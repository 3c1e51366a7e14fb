import { AttenuateError } from '../../tensor/error.ts';
import type { Calibration, InitialiseContext, Initialised, LayerShape, MadeTensor } from '../mechanism.ts';
import { MeanAttention } from './mean-attention.ts';
import { truncatedSvd } from './svd.ts';

/** Positions up to which a head's matrix of logits is held. */
const MOST_POSITIONS = 4096;

/** Least attention that is told apart from less; the tails of a logarithm would take columns of the factors. */
const LEAST_RATIO = { stored: 1e-8, factors: 1e-3 } as const;

/** Queries and keys are not projected any more. */
export const WITHOUT_QUERIES_AND_KEYS: readonly [string, null][] = [
  'query.weight',
  'query.bias',
  'key.weight',
  'key.bias',
].map((name) => [name, null]);

const padded = (size: number): number => (size + 7) & ~7;

async function meanAttention(
  kind: string,
  layer: LayerShape,
  calibration: Calibration | null,
): Promise<MeanAttention> {
  if (layer.maxLength > MOST_POSITIONS)
    throw new AttenuateError(
      'ATTENTION_REFUSED',
      `[attention] ${kind} cannot be made for layer ${layer.index}: expected a longest text of at most ${MOST_POSITIONS} tokens, got ${layer.maxLength}. Use local, or linformer.`,
      { kind, layer: layer.index },
    );
  const mean = new MeanAttention(layer);
  if (calibration) for await (const sample of calibration.layer(layer.index)) mean.add(sample);
  if (mean.length === 0)
    throw new AttenuateError(
      'CALIBRATION_MISSING',
      `[attention] ${kind} is made from the attention that your text meets inside the model: expected calibration text, got none. Pass --data, or calibration to applyRecipe.`,
      { kind },
    );
  return mean;
}

/** Square roots of exp(logit − largest of its row), `[H, N, N]`. */
export async function initialiseRandom(
  { layer, calibration }: InitialiseContext,
  codec: 'int8' | 'float16' | 'float32',
): Promise<Initialised> {
  const { heads, maxLength: N } = layer;
  const mean = await meanAttention('synthesizer-random', layer, calibration);
  const data = new Float32Array(heads * N * N);
  for (let h = 0; h < heads; h++) {
    const logits = mean.logits(h, N, LEAST_RATIO.stored);
    for (let q = 0; q < N; q++) {
      const row = logits.subarray(q * N, (q + 1) * N);
      const largest = row.reduce((m, x) => Math.max(m, x), -Infinity);
      const to = (h * N + q) * N;
      for (let k = 0; k < N; k++) data[to + k] = Math.exp((row[k] - largest) / 2);
      // A token's own code stays above 0: however short the sequence, its rows see something.
      if (codec === 'int8') data[to + q] = Math.max(data[to + q], 1 / 127);
    }
  }
  return new Map<string, MadeTensor | null>([
    ...WITHOUT_QUERIES_AND_KEYS,
    ['storedRoots', { shape: [heads, N, N], data, codec }],
  ]);
}

/** How much positions that only the longest sequences have count beside the first one. */
const LEAST_PRESENCE = 0.05;

/**
 * R1, R2 `[H, N, k′]` with R1 R2ᵀ near the logarithm of mean attention: a truncated SVD, in which a position counts as
 * often as calibration had it. Rows are centred first: softmax is blind to a row's mean, which would take one of the k.
 */
export function factorise(
  logits: Float64Array,
  N: number,
  rank: number,
  presence: Float64Array,
): { readonly queries: Float64Array; readonly keys: Float64Array } {
  const pitch = padded(rank);
  const weight = presence.map((share) => Math.sqrt(share) + LEAST_PRESENCE);
  const total = weight.reduce((sum, w) => sum + w * w, 0);
  const scaled = new Float64Array(N * N);
  for (let q = 0; q < N; q++) {
    let mean = 0;
    for (let k = 0; k < N; k++) mean += (weight[k] ** 2 * logits[q * N + k]) / total;
    for (let k = 0; k < N; k++) scaled[q * N + k] = weight[q] * weight[k] * (logits[q * N + k] - mean);
  }
  const { values, left, right } = truncatedSvd(scaled, N, N, rank, 1e-4);
  const queries = new Float64Array(N * pitch);
  const keys = new Float64Array(N * pitch);
  values.forEach((value, i) => {
    const root = Math.sqrt(value);
    for (let n = 0; n < N; n++) {
      queries[n * pitch + i] = (root * left[i * N + n]) / weight[n];
      keys[n * pitch + i] = (root * right[i * N + n]) / weight[n];
    }
  });
  return { queries, keys };
}

export async function initialiseFactorised(
  { layer, calibration }: InitialiseContext,
  rank: number,
): Promise<Initialised> {
  const { heads, maxLength: N } = layer;
  const mean = await meanAttention('synthesizer-factorised', layer, calibration);
  const shape = [heads, N, padded(rank)];
  const size = N * padded(rank);
  const queries = new Float32Array(heads * size);
  const keys = new Float32Array(heads * size);
  for (let h = 0; h < heads; h++) {
    const made = factorise(mean.logits(h, N, LEAST_RATIO.factors), N, rank, mean.presence(N));
    queries.set(made.queries, h * size);
    keys.set(made.keys, h * size);
  }
  return new Map<string, MadeTensor | null>([
    ...WITHOUT_QUERIES_AND_KEYS,
    ['storedQueries', { shape, data: queries }],
    ['storedKeys', { shape, data: keys }],
  ]);
}
