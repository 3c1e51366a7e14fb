import { AttenuateError } from '../tensor/error.ts';
import { minimize, type Objective } from './lbfgs.ts';
import { accuracy } from './metrics.ts';
import { stratifiedSplit } from './split.ts';

/** Multinomial logistic regression on frozen embeddings; features are centred and scaled as in training. */
export interface Probe {
  readonly labels: readonly string[];
  readonly mean: Float64Array;
  readonly scale: number;
  /** `[labels, D + 1]`, the bias last. */
  readonly weights: Float64Array;
  readonly converged: boolean;
}

export type Rows = readonly ArrayLike<number>[];

/** Inverse strengths of the L2 penalty that are tried, in scikit-learn's sense: Σ loss + ‖W‖² / (2C). */
export const STRENGTHS: readonly number[] = [0.0003, 0.003, 0.03, 0.3];

interface Fit {
  c: number;
  /** Weights to start from; the optimum is the same, only found sooner. */
  start?: Float64Array;
  maxIterations?: number;
  /** Of the gradient's norm, against the start's. */
  tolerance?: number;
  signal?: AbortSignal;
}

/** Fits a probe. The loss is convex: the result depends on the data and C alone, to the tolerance. */
export async function fitProbe(rows: Rows, labels: readonly string[], options: Fit): Promise<Probe> {
  if (rows.length !== labels.length || rows.length === 0)
    throw new AttenuateError(
      'PROBE_DATA',
      `[probe] rows and labels differ: expected ${labels.length} rows, got ${rows.length}. Pass one label per row.`,
      { rows: rows.length, labels: labels.length },
    );
  const names = [...new Set(labels)].sort();
  const index = new Map(names.map((name, i) => [name, i]));
  const truth = Uint32Array.from(labels, (label) => index.get(label)!);
  const D = rows[0].length;
  const mean = new Float64Array(D);
  for (const row of rows) for (let d = 0; d < D; d++) mean[d] += row[d] / rows.length;
  let variance = 0;
  for (const row of rows) for (let d = 0; d < D; d++) variance += (row[d] - mean[d]) ** 2;
  variance /= rows.length * D;
  // One scale for all columns keeps the embedding's geometry.
  const scale = variance > 0 ? 1 / Math.sqrt(variance) : 1;
  const features = new Float64Array(rows.length * D);
  rows.forEach((row, i) => {
    for (let d = 0; d < D; d++) features[i * D + d] = (row[d] - mean[d]) * scale;
  });
  const size = names.length * (D + 1);
  const start = options.start?.length === size ? options.start : new Float64Array(size);
  const objective = logisticLoss(features, truth, D, names.length, options.c);
  const { x, converged } = await minimize(objective, start, {
    maxIterations: options.maxIterations ?? 200,
    tolerance: options.tolerance ?? 1e-4,
    signal: options.signal,
  });
  return { labels: names, mean, scale, weights: x, converged };
}

/** Mean cross-entropy plus the penalty; the bias is not penalised. */
function logisticLoss(
  features: Float64Array,
  truth: Uint32Array,
  D: number,
  K: number,
  c: number,
): Objective {
  const n = truth.length;
  const penalty = 1 / (c * n);
  const stride = D + 1;
  const logits = Array.from({ length: ROWS }, () => new Float64Array(K));
  return (x, gradient) => {
    gradient.fill(0);
    let loss = 0;
    for (let i = 0; i < n; i += ROWS) {
      const count = Math.min(ROWS, n - i);
      scores(features, i * D, x, D, logits, count);
      for (let r = 0; r < ROWS; r++) {
        const row = logits[r];
        if (r >= count) {
          row.fill(0);
          continue;
        }
        softmax(row);
        const label = truth[i + r];
        loss -= Math.log(row[label]);
        row[label] -= 1;
        for (let k = 0; k < K; k++) row[k] = Math.abs(row[k]) < NOTHING * n ? 0 : row[k] / n;
      }
      addOuter(gradient, features, i * D, D, logits, count);
    }
    let squares = 0;
    for (let k = 0; k < K; k++)
      for (let j = k * stride; j < k * stride + D; j++) {
        squares += x[j] * x[j];
        gradient[j] += penalty * x[j];
      }
    return loss / n + (penalty / 2) * squares;
  };
}

/** Rows that are taken together: a weight is read once for all of them. */
const ROWS = 4;
/** Below float64's resolution of a sum of residuals. */
const NOTHING = 1e-18;

/** The logits of `count` rows, at most `ROWS`, one after another from `at` on. */
function scores(
  features: Float64Array,
  at: number,
  weights: Float64Array,
  D: number,
  out: readonly Float64Array[],
  count: number,
): void {
  // Rows that are not there stand for the last one.
  const [r0, r1, r2, r3] = [0, 1, 2, 3].map((r) => at + Math.min(r, count - 1) * D);
  const [o0, o1, o2, o3] = out;
  for (let k = 0; k < o0.length; k++) {
    const row = k * (D + 1);
    let [a, b, c, e] = [0, 0, 0, 0];
    for (let d = 0; d < D; d++) {
      const w = weights[row + d];
      a += features[r0 + d] * w;
      b += features[r1 + d] * w;
      c += features[r2 + d] * w;
      e += features[r3 + d] * w;
    }
    const bias = weights[row + D];
    o0[k] = a + bias;
    o1[k] = b + bias;
    o2[k] = c + bias;
    o3[k] = e + bias;
  }
}

/** Adds residuals `[count][K]` times rows `[count, D]`, and for each bias the residuals alone, to `gradient` `[K, D + 1]`. */
function addOuter(
  gradient: Float64Array,
  features: Float64Array,
  at: number,
  D: number,
  residuals: readonly Float64Array[],
  count: number,
): void {
  const [r0, r1, r2, r3] = [0, 1, 2, 3].map((r) => at + Math.min(r, count - 1) * D);
  for (let k = 0; k < residuals[0].length; k++) {
    const [a, b, c, e] = residuals.map((row) => row[k]);
    if (a === 0 && b === 0 && c === 0 && e === 0) continue;
    const row = k * (D + 1);
    for (let d = 0; d < D; d++)
      gradient[row + d] +=
        a * features[r0 + d] + b * features[r1 + d] + c * features[r2 + d] + e * features[r3 + d];
    gradient[row + D] += a + b + c + e;
  }
}

/** In place. */
function softmax(logits: Float64Array): void {
  let largest = -Infinity;
  for (const l of logits) if (l > largest) largest = l;
  let sum = 0;
  for (let k = 0; k < logits.length; k++) sum += logits[k] = Math.exp(logits[k] - largest);
  for (let k = 0; k < logits.length; k++) logits[k] = Math.max(logits[k] / sum, 1e-300);
}

/** The likeliest label of each row. */
export function predict(probe: Probe, rows: Rows): string[] {
  const D = probe.mean.length;
  const features = new Float64Array(D);
  const out = Array.from({ length: ROWS }, () => new Float64Array(probe.labels.length));
  const [logits] = out;
  return rows.map((row) => {
    for (let d = 0; d < D; d++) features[d] = (row[d] - probe.mean[d]) * probe.scale;
    scores(features, 0, probe.weights, D, out, 1);
    let best = 0;
    for (let k = 1; k < logits.length; k++) if (logits[k] > logits[best]) best = k;
    return probe.labels[best];
  });
}

/** The strength that does best on a fifth of the training rows, held out by label; the stronger penalty on a tie. */
export async function chooseStrength(
  rows: Rows,
  labels: readonly string[],
  options: { seed: number; signal?: AbortSignal; strengths?: readonly number[] },
): Promise<number> {
  const marked = labels.map((label, i) => ({ label, text: String(i) }));
  const { train, test } = stratifiedSplit(marked, 0.2, options.seed);
  const strengths = options.strengths ?? STRENGTHS;
  if (test.length === 0) return strengths[Math.floor(strengths.length / 2)];
  const pick = (part: typeof train) => part.map(({ text }) => rows[Number(text)]);
  const truth = test.map(({ label }) => label);
  let best = { c: strengths[0], score: -1 };
  let start: Float64Array | undefined;
  for (const c of strengths) {
    const trainLabels = train.map(({ label }) => label);
    const probe = await fitProbe(pick(train), trainLabels, {
      c,
      start,
      tolerance: 1e-3,
      signal: options.signal,
    });
    start = probe.weights;
    const score = accuracy(predict(probe, pick(test)), truth);
    // The score rises to one peak as the penalty weakens; the weakest penalties take longest to fit.
    if (score < best.score) break;
    if (score > best.score) best = { c, score };
  }
  return best.c;
}
