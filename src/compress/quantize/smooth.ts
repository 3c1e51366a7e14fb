import type { InputStatistics } from './statistics.ts';
import type { TrialProduct } from './trial.ts';

/** Below this a column's largest value is taken for this: a column that is never used has no scale. */
const FLOOR = 1e-5;

/**
 * Scales of SmoothQuant: `max|X|^α / max|W|^{1−α}` of each column, over all products that read it; floor 1e-5 (Xiao et
 * al. 2023, arXiv:2211.10438, equation 4). Their geometric mean is brought to 1: a common factor changes nothing.
 */
export function smoothingScale(
  { least, most }: InputStatistics,
  products: readonly TrialProduct[],
  alpha: number,
): Float32Array {
  const weights = largestOfColumns(products, least.length);
  return centred(
    least.map((low, c) => {
      const x = Math.max(-low, most[c], FLOOR);
      return Math.max(x ** alpha / Math.max(weights[c], FLOOR) ** (1 - alpha), FLOOR);
    }),
  );
}

function largestOfColumns(products: readonly TrialProduct[], columns: number): Float32Array {
  const out = new Float32Array(columns);
  for (const { values } of products)
    for (let i = 0; i < values.length; i++)
      out[i % columns] = Math.max(out[i % columns], Math.abs(values[i]));
  return out;
}

/** Positive numbers by a common factor, so that their logarithms add up to 0. */
export function centred(scale: Float32Array): Float32Array {
  let sum = 0;
  for (const s of scale) sum += Math.log(s);
  const factor = Math.exp(-sum / scale.length);
  return scale.map((s) => s * factor);
}
