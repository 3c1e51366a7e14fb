import type { EncoderConfig } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { accuracy, cosine, spearman } from '../metrics.ts';
import type { ScoredPair } from '../parse-data.ts';
import { fitProbe, predict } from '../probe.ts';
import { seeded, shuffled } from '../random.ts';
import { type Labelled, stratifiedSample, stratifiedSplit } from '../split.ts';

/** A figure of merit of output rows, more being better. */
export interface TaskMetric {
  readonly name: 'spearman' | 'accuracy';
  readonly texts: readonly string[];
  /**
   * Makes the metric ready.
   * @param baseline outputs of `texts` by the model as it is, in their order
   */
  open(baseline: readonly Float32Array[]): Promise<(rows: readonly Float32Array[]) => number>;
}

/** Examples to search on; nothing is measured on them afterwards. */
export type TaskExamples =
  | { readonly kind: 'pairs'; readonly pairs: readonly ScoredPair[] }
  | { readonly kind: 'labels'; readonly examples: readonly Labelled[] };

/** Examples that are used, at most: each weight in each width runs all of them. */
const MOST_PAIRS = 128;
const MOST_LABELLED = 256;
/** Inverse strength of a probe's penalty. */
const STRENGTH = 0.03;

/**
 * The metric of a user's task: Spearman's correlation of pairs, the accuracy of a model's own head, or that of a
 * linear probe, fitted once on half of the float model's embeddings and used on the other half.
 * @throws `TASK_EMPTY` for fewer than three pairs or four labelled texts, `HEAD_UNSUPPORTED`
 */
export function taskMetric(task: TaskExamples, { head }: EncoderConfig, seed = 1): TaskMetric {
  if (head.kind === 'maskedToken' || (head.kind === 'classification' && task.kind === 'pairs'))
    throw new AttenuateError(
      'HEAD_UNSUPPORTED',
      `[task] a ${head.kind} head has no metric on this data: expected an embedding head${task.kind === 'labels' ? ' or a classification head' : ''}, got ${head.kind}. Leave the data out.`,
      { head: head.kind, data: task.kind },
    );
  if (task.kind === 'pairs') {
    if (task.pairs.length < 3) throw tooFew('3 pairs', task.pairs.length);
    return pairMetric(shuffled(task.pairs, seeded(seed)).slice(0, MOST_PAIRS));
  }
  const examples = stratifiedSample(task.examples, MOST_LABELLED, seed);
  if (examples.length < 4) throw tooFew('4 labelled texts', examples.length);
  return head.kind === 'classification' ? headMetric(examples, head.labels) : probeMetric(examples, seed);
}

const tooFew = (least: string, got: number): AttenuateError =>
  new AttenuateError(
    'TASK_EMPTY',
    `[task] too little data to search on: expected at least ${least}, got ${got}. Add rows, or leave the data out.`,
    { got },
  );

function pairMetric(pairs: readonly ScoredPair[]): TaskMetric {
  const truth = pairs.map(({ score }) => score);
  return {
    name: 'spearman',
    texts: [...pairs.map(({ first }) => first), ...pairs.map(({ second }) => second)],
    open: async () => (rows) =>
      spearman(
        pairs.map((_, i) => cosine(rows[i], rows[pairs.length + i])),
        truth,
      ),
  };
}

function headMetric(examples: readonly Labelled[], labels: readonly string[]): TaskMetric {
  const truth = examples.map(({ label }) => label);
  // Many heads number their labels; data then may name them by that number.
  const names = truth.every((label) => labels.includes(label)) ? labels : labels.map((_, i) => String(i));
  const best = (row: Float32Array) => names[row.reduce((k, score, i) => (score > row[k] ? i : k), 0)];
  return {
    name: 'accuracy',
    texts: examples.map(({ text }) => text),
    open: async () => (rows) => accuracy(rows.map(best), truth),
  };
}

function probeMetric(examples: readonly Labelled[], seed: number): TaskMetric {
  const { train, test } = stratifiedSplit(examples, 0.5, seed);
  const labels = train.map(({ label }) => label);
  const truth = test.map(({ label }) => label);
  return {
    name: 'accuracy',
    texts: [...train, ...test].map(({ text }) => text),
    async open(baseline) {
      const probe = await fitProbe(baseline.slice(0, train.length), labels, { c: STRENGTH });
      return (rows) => accuracy(predict(probe, rows.slice(train.length)), truth);
    },
  };
}
