import { AttenuateError } from '../../tensor/error.ts';

/**
 * Solves `(G + ridge · mean(diag G) · I) X = C` for a symmetric, positive semidefinite G `[n, n]` and C `[n, columns]`
 * by Cholesky: the ridge regression whose normal equations G and C are. Where G is all zeros X is 0.
 * @throws `NOT_POSITIVE` for a G that is not positive semidefinite
 */
export function ridgeSolve(
  gram: Float64Array,
  n: number,
  right: Float64Array,
  columns: number,
  ridge: number,
): Float64Array {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i];
  if (trace === 0) return new Float64Array(n * columns);
  const L = gram.slice();
  for (let i = 0; i < n; i++) L[i * n + i] += (ridge * trace) / n;
  cholesky(L, n);
  const x = right.slice();
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) subtract(x, i, k, L[i * n + k], columns);
    divide(x, i, L[i * n + i], columns);
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) subtract(x, i, k, L[k * n + i], columns);
    divide(x, i, L[i * n + i], columns);
  }
  return x;
}

/** Lower triangle of `a` → L with L Lᵀ = a, in place. */
function cholesky(a: Float64Array, n: number): void {
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      if (i > j) {
        a[i * n + j] = sum / a[j * n + j];
        continue;
      }
      if (!(sum > 0))
        throw new AttenuateError(
          'NOT_POSITIVE',
          `[ridge] matrix that is not positive: expected a pivot above 0, got ${sum} in row ${i}. Raise the ridge or give more calibration text.`,
          { row: i },
        );
      a[i * n + i] = Math.sqrt(sum);
    }
}

function subtract(x: Float64Array, to: number, from: number, factor: number, columns: number): void {
  if (factor === 0) return;
  for (let c = 0; c < columns; c++) x[to * columns + c] -= factor * x[from * columns + c];
}

function divide(x: Float64Array, row: number, by: number, columns: number): void {
  for (let c = 0; c < columns; c++) x[row * columns + c] /= by;
}

/** `gram += xᵀ x` for rows x `[rows, n]`. */
export function addGram(gram: Float64Array, x: Float64Array, rows: number, n: number): void {
  addProduct(gram, x, n, x, n, rows);
}

/** `out += xᵀ y` for x `[rows, n]` and y `[rows, columns]`; `pitch` is the length of a row of `out`. */
export function addProduct(
  out: Float64Array,
  x: Float64Array,
  n: number,
  y: Float64Array,
  columns: number,
  rows: number,
  pitch = columns,
): void {
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < n; i++) {
      const factor = x[row * n + i];
      if (factor === 0) continue;
      const [to, from] = [i * pitch, row * columns];
      for (let c = 0; c < columns; c++) out[to + c] += factor * y[from + c];
    }
}
