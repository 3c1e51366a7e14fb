import { AttenuateError } from '../../tensor/error.ts';

/** Rows that are worked on together: a row above them is read once for all. */
const TILE = 4;

/**
 * The lower triangle L with L Lᵀ = A, in place of A's lower triangle; what stands above the diagonal is left.
 * @param matrix symmetric and positive definite, `[n, n]`
 * @throws `NOT_POSITIVE_DEFINITE`
 */
export function cholesky(matrix: Float64Array, n: number): void {
  for (let top = 0; top < n; top += TILE) {
    const bottom = Math.min(n, top + TILE);
    if (bottom - top === TILE) for (let j = 0; j < top; j++) eliminate(matrix, n, top, j);
    for (let i = top; i < bottom; i++)
      for (let j = bottom - top === TILE ? top : 0; j <= i; j++) {
        let left = matrix[i * n + j];
        for (let k = 0; k < j; k++) left -= matrix[i * n + k] * matrix[j * n + k];
        if (j < i) matrix[i * n + j] = left / matrix[j * n + j];
        else if (left > 0) matrix[i * n + i] = Math.sqrt(left);
        else
          throw new AttenuateError(
            'NOT_POSITIVE_DEFINITE',
            `[cholesky] a matrix that is not positive definite: expected a positive pivot, got ${left} in row ${i}. Use more damping or more text.`,
            { row: i, pivot: left },
          );
      }
  }
}

/** Column j of four rows from `top` on, all below row j. */
function eliminate(matrix: Float64Array, n: number, top: number, j: number): void {
  const at = j * n;
  const r0 = top * n;
  const r1 = r0 + n;
  const r2 = r1 + n;
  const r3 = r2 + n;
  let a = matrix[r0 + j];
  let b = matrix[r1 + j];
  let c = matrix[r2 + j];
  let d = matrix[r3 + j];
  for (let k = 0; k < j; k++) {
    const x = matrix[at + k];
    a -= matrix[r0 + k] * x;
    b -= matrix[r1 + k] * x;
    c -= matrix[r2 + k] * x;
    d -= matrix[r3 + k] * x;
  }
  const pivot = matrix[at + j];
  matrix[r0 + j] = a / pivot;
  matrix[r1 + j] = b / pivot;
  matrix[r2 + j] = c / pivot;
  matrix[r3 + j] = d / pivot;
}
