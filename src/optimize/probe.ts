import { AttenuateError } from '../tensor/error.ts';
import { minimize } from './lbfgs.ts';
import { logisticLoss } from './logistic.ts';
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

/** The likeliest label of each row. */
export function predict({ labels, mean, scale, weights }: Probe, rows: Rows): string[] {
  const D = mean.length;
  const features = new Float64Array(D);
  return rows.map((row) => {
    for (let d = 0; d < D; d++) features[d] = (row[d] - mean[d]) * scale;
    let [best, largest] = [0, -Infinity];
    for (let k = 0; k < labels.length; k++) {
      const at = k * (D + 1);
      let logit = weights[at + D];
      for (let d = 0; d < D; d++) logit += features[d] * weights[at + d];
      if (logit > largest) [best, largest] = [k, logit];
    }
    return labels[best];
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
