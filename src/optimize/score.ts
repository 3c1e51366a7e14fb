import type { EncoderConfig } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Dataset } from './data.ts';
import { accuracy, cosine, pairedBootstrap, type Statistic, spearman } from './metrics.ts';
import { chooseStrength, fitProbe, predict, type Rows } from './probe.ts';
import type { Agreement, Interval, MetricFigure } from './result.ts';

export interface Scores {
  readonly metric: MetricFigure;
  readonly drop: Interval;
  readonly agreement: Agreement;
}

/** How outputs become a metric: which texts to run, and the score of a candidate's rows against the float model's. */
export interface Scorer {
  readonly output: 'embedding' | 'probabilities';
  /** The test texts, then those that only a probe is trained on. */
  readonly texts: readonly string[];
  readonly testTexts: number;
  readonly method: string;
  score(rows: Rows, baseline: Rows, signal?: AbortSignal): Promise<Scores>;
}

/** Chooses the metric that data and head call for. @throws `HEAD_UNSUPPORTED`, `DATA_LABELS` */
export function makeScorer(data: Dataset, config: EncoderConfig, seed: number): Scorer {
  const { head } = config;
  if (head.kind === 'maskedToken' || (head.kind === 'classification' && data.kind === 'pairs'))
    throw new AttenuateError(
      'HEAD_UNSUPPORTED',
      `[optimize] a ${head.kind} head cannot be scored on this data: expected an embedding head${data.kind === 'labels' ? ' or a classification head' : ''}, got ${head.kind}. Use another model or data.`,
      { head: head.kind, data: data.kind },
    );
  if (data.kind === 'pairs') return pairScorer(data.pairs, seed);
  if (head.kind === 'classification') return headScorer(data, head.labels, seed);
  return probeScorer(data, seed);
}

function pairScorer(pairs: Extract<Dataset, { kind: 'pairs' }>['pairs'], seed: number): Scorer {
  const n = pairs.length;
  const truth = pairs.map(({ score }) => score);
  const texts = [...pairs.map(({ first }) => first), ...pairs.map(({ second }) => second)];
  return {
    output: 'embedding',
    texts,
    testTexts: texts.length,
    method: "Spearman's correlation of the embeddings' cosine with the given scores",
    async score(rows, baseline) {
      const statistic = (of: Rows): Statistic => {
        const cosines = pairs.map((_, i) => cosine(of[i], of[n + i]));
        return (at) =>
          spearman(
            Array.from(at, (i) => cosines[i]),
            Array.from(at, (i) => truth[i]),
          );
      };
      const { metric, drop } = pairedBootstrap(n, statistic(rows), statistic(baseline), { seed });
      const value = rows.reduce((sum, row, i) => sum + cosine(row, baseline[i]), 0) / rows.length;
      return {
        metric: { name: 'spearman', ...metric, n },
        drop,
        agreement: { kind: 'cosine', value, n: rows.length },
      };
    },
  };
}

/** Accuracy, drop and agreement of predicted labels. */
function labelScores(
  predicted: readonly string[],
  baseline: readonly string[],
  truth: readonly string[],
  seed: number,
): Scores {
  const statistic = (labels: readonly string[]): Statistic => {
    const hits = Uint8Array.from(truth, (label, i) => (labels[i] === label ? 1 : 0));
    return (at) => {
      let sum = 0;
      for (const i of at) sum += hits[i];
      return sum / at.length;
    };
  };
  const n = truth.length;
  const { metric, drop } = pairedBootstrap(n, statistic(predicted), statistic(baseline), { seed });
  return {
    metric: { name: 'accuracy', ...metric, n },
    drop,
    agreement: { kind: 'labels', value: accuracy(predicted, baseline), n },
  };
}

function headScorer(
  data: Extract<Dataset, { kind: 'labels' }>,
  labels: readonly string[],
  seed: number,
): Scorer {
  const truth = data.test.map(({ label }) => label);
  // Many heads number their labels; data then may name them by that number.
  const byIndex = truth.every((label) => /^\d+$/.test(label) && Number(label) < labels.length);
  const names = truth.every((label) => labels.includes(label)) ? labels : labels.map((_, i) => String(i));
  if (names !== labels && !byIndex)
    throw new AttenuateError(
      'DATA_LABELS',
      `[optimize] labels that the model's head lacks: expected ${labels.join(', ')}, got ${truth.find((label) => !labels.includes(label))}. Rename the labels or use an embedding model.`,
      { labels },
    );
  const best = (rows: Rows) =>
    rows.map((row) => {
      let k = 0;
      for (let i = 1; i < row.length; i++) if (row[i] > row[k]) k = i;
      return names[k];
    });
  return {
    output: 'probabilities',
    texts: data.test.map(({ text }) => text),
    testTexts: data.test.length,
    method: "accuracy of the model's own head",
    score: async (rows, baseline) => labelScores(best(rows), best(baseline), truth, seed),
  };
}

function probeScorer(data: Extract<Dataset, { kind: 'labels' }>, seed: number): Scorer {
  const testTexts = data.test.length;
  const truth = data.test.map(({ label }) => label);
  const labels = data.train.map(({ label }) => label);
  let reference: { rows: Rows; c: number; weights: Float64Array; predicted: string[] } | null = null;
  return {
    output: 'embedding',
    texts: [...data.test, ...data.train].map(({ text }) => text),
    testTexts,
    method:
      'accuracy of a linear probe (L2 multinomial logistic regression) fitted on each candidate’s own frozen embeddings; C chosen on a part of the float model’s training rows',
    async score(rows, baseline, signal) {
      if (reference?.rows !== baseline) {
        const train = baseline.slice(testTexts);
        const c = await chooseStrength(train, labels, { seed, signal });
        const probe = await fitProbe(train, labels, { c, signal });
        const predicted = predict(probe, baseline.slice(0, testTexts));
        reference = { rows: baseline, c, weights: probe.weights, predicted };
      }
      const { c, weights, predicted } = reference;
      if (rows === baseline) return labelScores(predicted, predicted, truth, seed);
      const probe = await fitProbe(rows.slice(testTexts), labels, { c, start: weights, signal });
      return labelScores(predict(probe, rows.slice(0, testTexts)), predicted, truth, seed);
    },
  };
}
