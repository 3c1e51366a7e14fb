import { DoubleProducts, TILE } from '../backend/wasm/double-products.ts';
import type { Objective } from './lbfgs.ts';

/** Rows that are taken together: a block of them stays in the second cache level. */
const ROWS = 64;
/** Below float64's resolution of a sum of residuals. */
const NOTHING = 1e-18;

const padded = (count: number): number => Math.ceil(count / TILE) * TILE;

/**
 * Mean cross-entropy of multinomial logistic regression plus ‖W‖² / (2Cn), as a function of the weights `[K, D + 1]`, the
 * bias last and not penalised.
 *
 * @param features `[n, D]`
 * @param truth the label of each row, below K
 */
export function logisticLoss(
  features: Float64Array,
  truth: Uint32Array,
  D: number,
  K: number,
  c: number,
): Objective {
  const n = truth.length;
  const penalty = 1 / (c * n);
  // A column of ones behind the features meets the bias.
  const [width, labels] = [padded(D + 1), padded(K)];
  const products = new DoubleProducts({
    rows: [ROWS, width],
    weights: [width, labels],
    logits: [ROWS, labels],
    gradient: [labels, width],
  });
  const { rows, weights, logits, gradient } = products.matrices;
  return (x, out) => {
    const stride = D + 1;
    for (let k = 0; k < K; k++)
      for (let d = 0; d < stride; d++) weights.values[d * labels + k] = x[k * stride + d];
    gradient.values.fill(0);
    let loss = 0;
    for (let from = 0; from < n; from += ROWS) {
      const count = Math.min(ROWS, n - from);
      for (let r = 0; r < count; r++) {
        rows.values.set(features.subarray((from + r) * D, (from + r + 1) * D), r * width);
        rows.values[r * width + D] = 1;
      }
      logits.values.fill(0);
      products.add('logits', 'rows', 'weights');
      for (let r = 0; r < ROWS; r++) {
        const row = logits.values.subarray(r * labels, (r + 1) * labels);
        row.fill(0, r < count ? K : 0);
        if (r < count) loss += residuals(row.subarray(0, K), truth[from + r], n);
      }
      products.addTransposed('gradient', 'logits', 'rows');
    }
    let squares = 0;
    for (let k = 0; k < K; k++) {
      const at = k * stride;
      out.set(gradient.values.subarray(k * width, k * width + stride), at);
      for (let j = at; j < at + D; j++) {
        squares += x[j] * x[j];
        out[j] += penalty * x[j];
      }
    }
    return loss / n + (penalty / 2) * squares;
  };
}

/** Makes logits, in place, into the gradient of their share of the mean; gives the cross-entropy. */
function residuals(row: Float64Array, label: number, n: number): number {
  let largest = -Infinity;
  for (const logit of row) if (logit > largest) largest = logit;
  let sum = 0;
  for (let k = 0; k < row.length; k++) sum += row[k] = Math.exp(row[k] - largest);
  for (let k = 0; k < row.length; k++) row[k] /= sum;
  const loss = -Math.log(Math.max(row[label], 1e-300));
  row[label] -= 1;
  for (let k = 0; k < row.length; k++) row[k] = Math.abs(row[k]) < NOTHING * n ? 0 : row[k] / n;
  return loss;
}
