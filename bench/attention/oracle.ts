import { evaluateMask, type MaskExpression } from '../../src/program/mask/expression.ts';
import { padHead } from '../../src/program/ops/linear.ts';
import { HEADS } from './inputs.ts';

/** Query rows that are compared: spread over the sequence, both ends included. */
export function sampledRows(n: number, count = 12): number[] {
  return [...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (n - 1)) / (count - 1))))];
}

/** Softmax attention of some query rows in float64: `[rows, H·D]`, over all pairs or those that a mask keeps. */
export function denseRows(
  qkv: Float32Array,
  n: number,
  headSize: number,
  rows: readonly number[],
  mask: MaskExpression | null = null,
): Float64Array {
  const pitch = padHead(headSize);
  const out = new Float64Array(rows.length * HEADS * headSize);
  const weights = new Float64Array(n);
  rows.forEach((q, r) => {
    for (let h = 0; h < HEADS; h++) {
      const at = (part: number, row: number) => ((part * HEADS + h) * n + row) * pitch;
      let largest = -Infinity;
      for (let k = 0; k < n; k++) {
        let score = 0;
        for (let d = 0; d < headSize; d++) score += qkv[at(0, q) + d] * qkv[at(1, k) + d];
        const kept = !mask || evaluateMask(mask, { h, q, k, keys: n });
        weights[k] = kept ? score / Math.sqrt(headSize) : -Infinity;
        largest = Math.max(largest, weights[k]);
      }
      if (largest === -Infinity) continue;
      let sum = 0;
      for (let k = 0; k < n; k++) sum += weights[k] = Math.exp(weights[k] - largest);
      for (let k = 0; k < n; k++)
        for (let d = 0; d < headSize; d++)
          out[(r * HEADS + h) * headSize + d] += (weights[k] / sum) * qkv[at(2, k) + d];
    }
  });
  return out;
}

/** The same rows of an output `[n, H·D]`. */
export function pickRows(output: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((row, r) => {
    out.set(output.subarray(row * width, (row + 1) * width), r * width);
  });
  return out;
}

/** Σ|a − b| / Σ|b|. */
export function relativeL1(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += Math.abs(a[i] - b[i]);
    size += Math.abs(b[i]);
  }
  return difference / size;
}
