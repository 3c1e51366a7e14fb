import type { Random } from '../../tensor/random.ts';

/** Queries and keys of one head in one sequence, `[n, D]` row by row. */
export interface HeadSample {
  readonly n: number;
  readonly queries: Float32Array;
  readonly keys: Float32Array;
}

/** A learned feature map φ(x) = [exp(Wx), exp(−Wx)], W `[m, D]`; with `normalise` each half a softmax. */
export interface HedgehogMap {
  readonly weights: Float64Array;
  readonly m: number;
  readonly D: number;
  readonly normalise: boolean;
}

export interface DistilOptions {
  /** Steps of Adam, each on some rows of one sequence. */
  readonly steps: number;
  readonly learningRate: number;
  /** Queries of one step. */
  readonly rows: number;
}

/** Features of rows, `[n, 2m]`, up to a factor for each query, or one for all keys, that cancels in attention. */
function featuresOf(x: Float32Array, n: number, map: HedgehogMap, shared: boolean): Float64Array {
  const { weights, m, D, normalise } = map;
  const phi = new Float64Array(n * 2 * m);
  const tops = new Float64Array(n);
  for (let i = 0; i < n; i++)
    for (let f = 0; f < m; f++) {
      let u = 0;
      for (let d = 0; d < D; d++) u += weights[f * D + d] * x[i * D + d];
      phi[i * 2 * m + f] = u;
      phi[i * 2 * m + m + f] = -u;
      tops[i] = Math.max(tops[i], Math.abs(u));
    }
  const top = tops.reduce((a, b) => Math.max(a, b), 0);
  const halves = normalise ? 2 : 1;
  const width = (2 * m) / halves;
  for (let i = 0; i < n; i++)
    for (let half = 0; half < halves; half++) {
      const part = phi.subarray(i * 2 * m + half * width, i * 2 * m + (half + 1) * width);
      const c = normalise ? part.reduce((a, b) => Math.max(a, b)) : shared ? top : tops[i];
      let sum = 0;
      for (let f = 0; f < width; f++) sum += part[f] = Math.exp(part[f] - c);
      if (normalise) for (let f = 0; f < width; f++) part[f] /= sum;
    }
  return phi;
}

/** Adds to `gradient` `[m, D]` what `dPhi` means for W. */
function backward(
  map: HedgehogMap,
  x: Float32Array,
  n: number,
  phi: Float64Array,
  dPhi: Float64Array,
  gradient: Float64Array,
): void {
  const { m, D, normalise } = map;
  for (let i = 0; i < n; i++) {
    const at = i * 2 * m;
    const mean = [0, 0];
    if (normalise) for (let f = 0; f < 2 * m; f++) mean[f < m ? 0 : 1] += phi[at + f] * dPhi[at + f];
    for (let f = 0; f < m; f++) {
      const du = phi[at + f] * (dPhi[at + f] - mean[0]) - phi[at + m + f] * (dPhi[at + m + f] - mean[1]);
      for (let d = 0; d < D; d++) gradient[f * D + d] += du * x[i * D + d];
    }
  }
}

/** Softmax attention of some queries over all keys, `[rows, n]`. */
function teacher({ n, queries, keys }: HeadSample, D: number, rows: readonly number[]): Float64Array {
  const out = new Float64Array(rows.length * n);
  rows.forEach((q, i) => {
    const row = out.subarray(i * n, (i + 1) * n);
    for (let k = 0; k < n; k++) {
      let score = 0;
      for (let d = 0; d < D; d++) score += queries[q * D + d] * keys[k * D + d];
      row[k] = score / Math.sqrt(D);
    }
    const top = row.reduce((a, b) => Math.max(a, b));
    let sum = 0;
    for (let k = 0; k < n; k++) sum += row[k] = Math.exp(row[k] - top);
    for (let k = 0; k < n; k++) row[k] /= sum;
  });
  return out;
}

/** Mean cross-entropy of the map's attention against softmax attention over some rows, in nats, and its gradient. */
function evaluate(
  sample: HeadSample,
  map: HedgehogMap,
  rows: readonly number[],
  gradient: Float64Array | null,
): number {
  const { m, D } = map;
  const { n } = sample;
  const M = 2 * m;
  const picked = new Float32Array(rows.length * D);
  rows.forEach((q, i) => {
    picked.set(sample.queries.subarray(q * D, (q + 1) * D), i * D);
  });
  const phiQ = featuresOf(picked, rows.length, map, false);
  const phiK = featuresOf(sample.keys, n, map, true);
  const wanted = teacher(sample, D, rows);
  const dQ = new Float64Array(gradient ? phiQ.length : 0);
  const dK = new Float64Array(gradient ? phiK.length : 0);
  const scores = new Float64Array(n);
  let loss = 0;
  for (let i = 0; i < rows.length; i++) {
    let sum = 0;
    for (let k = 0; k < n; k++) {
      let s = 0;
      for (let f = 0; f < M; f++) s += phiQ[i * M + f] * phiK[k * M + f];
      sum += scores[k] = Math.max(s, 1e-300);
    }
    for (let k = 0; k < n; k++) {
      const a = wanted[i * n + k];
      loss -= a * Math.log(scores[k] / sum);
      if (!gradient) continue;
      const g = (1 / sum - a / scores[k]) / rows.length;
      for (let f = 0; f < M; f++) {
        dQ[i * M + f] += g * phiK[k * M + f];
        dK[k * M + f] += g * phiQ[i * M + f];
      }
    }
  }
  if (gradient) {
    backward(map, picked, rows.length, phiQ, dQ, gradient);
    backward(map, sample.keys, n, phiK, dK, gradient);
  }
  return loss / rows.length;
}

/** Mean cross-entropy over every row of some sequences, in nats; that of the teacher with itself is its entropy. */
export function distillationLoss(samples: readonly HeadSample[], map: HedgehogMap): number {
  const losses = samples.map((s) => evaluate(s, map, [...Array(s.n).keys()], null));
  return losses.reduce((a, b) => a + b, 0) / samples.length;
}

/** The gradient of `distillationLoss` with respect to W, for tests of it. */
export function distillationGradient(samples: readonly HeadSample[], map: HedgehogMap): Float64Array {
  const gradient = new Float64Array(map.m * map.D);
  for (const s of samples) evaluate(s, map, [...Array(s.n).keys()], gradient);
  return gradient.map((g) => g / samples.length);
}

/**
 * Fits W of one head so that the map's attention is near softmax attention: cross-entropy on the attention weights
 * (Zhang et al. 2024, section 4.3), by Adam (Kingma and Ba 2015) with a rate that falls to 0 along a half cosine.
 */
export function distilFeatures(
  samples: readonly HeadSample[],
  start: HedgehogMap,
  random: Random,
  { steps, learningRate, rows }: DistilOptions,
): HedgehogMap {
  const weights = start.weights.slice();
  const map = { ...start, weights };
  const [first, second] = [new Float64Array(weights.length), new Float64Array(weights.length)];
  const usable = samples.filter(({ n }) => n > 1);
  if (usable.length === 0) return map;
  for (let step = 1; step <= steps; step++) {
    const sample = usable[random.integer(usable.length)];
    const chosen = Array.from({ length: Math.min(rows, sample.n) }, () => random.integer(sample.n));
    const gradient = new Float64Array(weights.length);
    evaluate(sample, map, chosen, gradient);
    const rate = learningRate * 0.5 * (1 + Math.cos((Math.PI * (step - 1)) / steps));
    for (let i = 0; i < weights.length; i++) {
      first[i] = 0.9 * first[i] + 0.1 * gradient[i];
      second[i] = 0.999 * second[i] + 0.001 * gradient[i] ** 2;
      const spread = Math.sqrt(second[i] / (1 - 0.999 ** step)) + 1e-8;
      weights[i] -= (rate * first[i]) / (1 - 0.9 ** step) / spread;
    }
  }
  return map;
}
