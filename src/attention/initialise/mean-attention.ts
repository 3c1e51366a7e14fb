import type { LayerSample, LayerShape } from '../mechanism.ts';

/** `count` row numbers of `n`, evenly spread; `shift` moves them, so that other calls see other rows. */
export function spreadRows(n: number, count: number, shift = 0): number[] {
  if (n <= count) return Array.from({ length: n }, (_, i) => i);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + (shift % 7) / 7) * n) / count));
}

/** Scaled scores of some queries of one head against `keys` `[m, D]`, `[rows.length, m]`. */
export function scoresOf(
  { queries, n }: LayerSample,
  head: number,
  rows: readonly number[],
  keys: ArrayLike<number>,
  m: number,
  scale: number,
): Float64Array {
  const D = queries.shape[2];
  const out = new Float64Array(rows.length * m);
  const transposed = new Float64Array(D * m); // [D, m]
  for (let k = 0; k < m; k++) for (let d = 0; d < D; d++) transposed[d * m + k] = keys[k * D + d];
  rows.forEach((q, i) => {
    for (let d = 0; d < D; d++) {
      const x = scale * queries.data[(head * n + q) * D + d];
      for (let k = 0; k < m; k++) out[i * m + k] += x * transposed[d * m + k];
    }
  });
  return out;
}

/** Rows of scores `[rows, m]` → attention, in place. */
export function softmaxRows(scores: Float64Array, m: number): Float64Array {
  for (let from = 0; from < scores.length; from += m) {
    let largest = -Infinity;
    for (let k = 0; k < m; k++) largest = Math.max(largest, scores[from + k]);
    let sum = 0;
    for (let k = 0; k < m; k++) sum += scores[from + k] = Math.exp(scores[from + k] - largest);
    for (let k = 0; k < m; k++) scores[from + k] /= sum;
  }
  return scores;
}

/** Dense attention of some rows of one head, `[rows.length, n]`. */
export function attentionRows(
  sample: LayerSample,
  head: number,
  rows: readonly number[],
  scale: number,
): Float64Array {
  const { keys, n } = sample;
  const D = keys.shape[2];
  const own = keys.data.subarray(head * n * D, (head + 1) * n * D);
  return softmaxRows(scoresOf(sample, head, rows, own, n, scale), n);
}

/**
 * What attention is on average, whatever the tokens. Rows of sequences of n tokens count times n, which puts short and
 * long ones on one scale (softmax is blind to a row's factor).
 */
export class MeanAttention {
  /** Longest sequence so far. */
  length = 0;
  private readonly heads: number;
  private readonly scale: number;
  private sums: Float32Array[] = [];
  private readonly lengths: number[] = [];

  constructor({ heads, headSize }: LayerShape) {
    this.heads = heads;
    this.scale = 1 / Math.sqrt(headSize);
  }

  add(sample: LayerSample): void {
    const { n } = sample;
    if (n > this.length) this.grow(n);
    this.lengths.push(n);
    const rows = spreadRows(n, n);
    for (let h = 0; h < this.heads; h++) {
      const attention = attentionRows(sample, h, rows, this.scale);
      const sums = this.sums[h];
      for (let q = 0; q < n; q++)
        for (let k = 0; k < n; k++) sums[q * this.length + k] += n * attention[q * n + k];
    }
  }

  /** Share of the sequences that have a token at each of `N` positions. */
  presence(N: number): Float64Array {
    return Float64Array.from(
      { length: N },
      (_, i) => this.lengths.filter((n) => n > i).length / Math.max(1, this.lengths.length),
    );
  }

  /**
   * Logarithm of the mean attention of one head, `[N, N]`. A pair that no sequence had takes the mean of all pairs at
   * the same distance. `least` is the smallest attention told apart, as a part of what a key would get if all got the
   * same.
   */
  logits(head: number, N: number, least: number): Float64Array {
    const L = this.length;
    const counts = Float64Array.from({ length: L }, (_, i) => this.lengths.filter((n) => n > i).length);
    const out = new Float64Array(N * N);
    const byDistance = new Float64Array(2 * N);
    const pairs = new Float64Array(2 * N);
    for (let q = 0; q < Math.min(L, N); q++)
      for (let k = 0; k < Math.min(L, N); k++) {
        const ratio = this.sums[head][q * L + k] / counts[Math.max(q, k)];
        const logit = Math.log(Math.max(least, ratio));
        out[q * N + k] = logit;
        byDistance[k - q + N] += logit;
        pairs[k - q + N]++;
      }
    for (let q = 0; q < N; q++)
      for (let k = q < L ? L : 0; k < N; k++) {
        const d = N + Math.max(1 - L, Math.min(L - 1, k - q));
        out[q * N + k] = pairs[d] ? byDistance[d] / pairs[d] : 0;
      }
    return out;
  }

  private grow(n: number): void {
    const before = this.length;
    this.sums = Array.from({ length: this.heads }, (_, h) => {
      const wider = new Float32Array(n * n);
      for (let q = 0; q < before; q++) wider.set(this.sums[h].subarray(q * before, (q + 1) * before), q * n);
      return wider;
    });
    this.length = n;
  }
}
