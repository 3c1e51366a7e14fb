import type { Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

// What losses look like; every one gives a float32 `[1]`, the mean over what counts.

/** −log softmax(logits)[label], mean over rows; a row whose label is −1 does not count. logits `[…, C]`, labels `[…]` int32. */
export type CrossEntropy = (
  t: Tracer,
  logits: Value,
  labels: Value,
  options?: { smoothing?: number },
) => Value;

/**
 * −Σ softmax(targets / T) · log softmax(logits / T) · T², mean over rows (Hinton et al. 2015, section 2); with
 * `divergence` the targets' entropy is taken off, which is KL · T². Rows of targets are data: they get no gradient.
 */
export type SoftCrossEntropy = (
  t: Tracer,
  logits: Value,
  targets: Value,
  options?: { temperature?: number; divergence?: boolean },
) => Value;

/** Mean of (a − b)² over elements; with `lengths` over rows of `[B, N, C]` that exist. Both may have gradients. */
export type MeanSquaredError = (t: Tracer, a: Value, b: Value, lengths?: Value) => Value;

/** Mean over rows of 1 − cos(a, b). */
export type CosineDistance = (t: Tracer, a: Value, b: Value) => Value;

/** In-batch negatives (InfoNCE): cross-entropy of a·bᵀ / temperature `[B, B]` with the diagonal. Rows of length 1. */
export type Contrastive = (t: Tracer, a: Value, b: Value, options?: { temperature?: number }) => Value;

/** Σ weight · loss. */
export type WeightedSum = (t: Tracer, losses: readonly (readonly [Value, number])[]) => Value;
