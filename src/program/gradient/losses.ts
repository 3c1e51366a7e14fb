import type { Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { meanRows } from './loss-sums.ts';
import { matrixProduct, rowNumbers } from './matrix-product.ts';
import { rowLoss } from './row-losses.ts';

export { weightedSum } from './loss-sums.ts';
export { attentionScoreLoss, type PairSource, relationLoss } from './pair-loss.ts';

// Every loss is a float32 `[1]`: the mean over the rows that count.

/**
 * −log softmax(logits)[label]: logits `[…, C]`, labels `[…]` int32; a row whose label is negative does not count.
 * `smoothing` spreads that share of each label over all.
 */
export const crossEntropy = (
  t: Tracer,
  logits: Value,
  labels: Value,
  { smoothing = 0 }: { readonly smoothing?: number } = {},
): Value => meanRows(t, rowLoss(t, 'crossEntropy', logits, labels, null, { smoothing }));

/**
 * −T² Σ softmax(targets / T) · log softmax(logits / T) (Hinton, Vinyals and Dean 2015, section 2); with `divergence`
 * less the targets' entropy, which makes it T² times the Kullback-Leibler divergence. Targets get no gradient.
 */
export const softCrossEntropy = (
  t: Tracer,
  logits: Value,
  targets: Value,
  options: { readonly temperature?: number; readonly divergence?: boolean; readonly lengths?: Value } = {},
): Value => {
  const { lengths, ...rest } = options;
  return meanRows(t, rowLoss(t, 'softCrossEntropy', logits, targets, lengths ?? null, rest));
};

/** Mean of (a − b)²; with `lengths` `[B]` over rows of `[B, N, C]` that exist. */
export const meanSquaredError = (t: Tracer, a: Value, b: Value, lengths?: Value): Value =>
  meanRows(t, rowLoss(t, 'squaredError', a, b, lengths ?? null));

/** Mean of 1 − cos(a, b) over rows; with `lengths` over those of `[B, N, C]` that exist. */
export const cosineDistance = (t: Tracer, a: Value, b: Value, lengths?: Value): Value =>
  meanRows(t, rowLoss(t, 'cosineDistance', a, b, lengths ?? null));

/**
 * In-batch negatives (van den Oord et al. 2018, InfoNCE): cross-entropy of a·bᵀ / temperature `[B, B]` whose row i
 * belongs to column i. a and b `[B, C]` with rows of length 1.
 */
export const contrastive = (
  t: Tracer,
  a: Value,
  b: Value,
  { temperature = 0.05 }: { readonly temperature?: number } = {},
): Value =>
  meanRows(
    t,
    rowLoss(t, 'crossEntropy', matrixProduct(t, a, b, 'a·bᵀ'), rowNumbers(t, a), null, { temperature }),
  );
