import { ridgeSolve } from '../../attention/initialise/ridge.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { InputStatistics } from '../quantize/statistics.ts';
import { largest } from './layer-weights.ts';

export interface PrunedNeurons {
  readonly neurons: readonly number[];
  /** The down product over the neurons that are left, `[C, neurons]`, and its bias. */
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

/** Ridge of the least squares, as a share of the mean variance. */
const RIDGE = 1e-3;

/**
 * Neurons that matter most to what follows on the user's text, by variance times squared weight, and the down product
 * that gives the whole layer's output back from them in least squares, what the others do on average in the bias.
 * @param weight of the down product `[C, F]`
 * @param seen what the down product reads, with moments
 */
export function pruneNeurons(
  weight: Float32Array,
  bias: Float32Array,
  seen: InputStatistics,
  count: number,
): PrunedNeurons {
  const { columns: F, mean, moments } = seen;
  const C = bias.length;
  if (!moments || weight.length !== C * F)
    throw new AttenuateError(
      'STUDENT_STATISTICS',
      `[distill] statistics of another product: expected moments of ${weight.length / C} columns, got ${moments ? F : 'none'}. Observe the teacher with moments.`,
      { columns: F },
    );
  const covariance = (i: number, j: number) => moments[i * F + j] - mean[i] * mean[j];
  const scores = Float64Array.from({ length: F }, (_, f) => {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += weight[c * F + f] ** 2;
    return sum * covariance(f, f);
  });
  const neurons = largest(scores, count);
  const gram = new Float64Array(count * count);
  const right = new Float64Array(count * C); // [kept, C] = Cov[kept, :] · weightᵀ
  neurons.forEach((f, i) => {
    for (let j = 0; j < count; j++) gram[i * count + j] = covariance(f, neurons[j]);
    for (let g = 0; g < F; g++) {
      const x = covariance(f, g);
      for (let c = 0; c < C; c++) right[i * C + c] += x * weight[c * F + g];
    }
  });
  const solved = ridgeSolve(gram, count, right, C, RIDGE);
  const out = new Float32Array(C * count);
  const shifted = Float64Array.from(bias);
  for (let c = 0; c < C; c++) {
    for (let f = 0; f < F; f++) shifted[c] += weight[c * F + f] * mean[f];
    neurons.forEach((f, i) => {
      out[c * count + i] = solved[i * C + c];
      shifted[c] -= solved[i * C + c] * mean[f];
    });
  }
  return { neurons, weight: out, bias: Float32Array.from(shifted) };
}
