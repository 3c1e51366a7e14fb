import type { Random } from '../../tensor/random.ts';

/**
 * QR of a square matrix by Householder reflections (Golub and Van Loan, Matrix Computations, algorithm 5.2.1).
 * @param a `[n, n]`, row by row
 * @returns Q `[n, n]` row by row, and the diagonal of R, whose signs are as the reflections leave them
 */
export function householderQr(a: Float64Array, n: number): { q: Float64Array; diagonal: Float64Array } {
  const r = a.slice();
  const q = new Float64Array(n * n);
  for (let i = 0; i < n; i++) q[i * n + i] = 1;
  const diagonal = new Float64Array(n);
  const v = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    let norm = 0;
    for (let i = k; i < n; i++) norm = Math.hypot(norm, r[i * n + k]);
    diagonal[k] = r[k * n + k] > 0 ? -norm : norm;
    for (let i = k; i < n; i++) v[i] = r[i * n + k];
    v[k] -= diagonal[k];
    let squares = 0;
    for (let i = k; i < n; i++) squares += v[i] * v[i];
    if (squares === 0) continue;
    // R ← (I − 2vvᵀ/vᵀv) R, and Q ← Q (I − 2vvᵀ/vᵀv).
    for (let j = k; j < n; j++) {
      let sum = 0;
      for (let i = k; i < n; i++) sum += v[i] * r[i * n + j];
      for (let i = k; i < n; i++) r[i * n + j] -= (2 * sum * v[i]) / squares;
    }
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = k; j < n; j++) sum += q[i * n + j] * v[j];
      for (let j = k; j < n; j++) q[i * n + j] -= (2 * sum * v[j]) / squares;
    }
  }
  return { q, diagonal };
}

/**
 * A rotation drawn evenly from all of them (Haar measure), `[n, n]`: Q of a Gaussian matrix, its columns times the
 * signs of R's diagonal. Without the signs Q depends on how the factorisation chose them (Mezzadri 2007, section 5).
 */
export function haarOrthogonal(random: Random, n: number): Float64Array {
  const { q, diagonal } = householderQr(gaussianMatrix(random, n, n), n);
  return q.map((x, i) => (diagonal[i % n] < 0 ? -x : x));
}

export const gaussianMatrix = (random: Random, rows: number, columns: number): Float64Array =>
  Float64Array.from({ length: rows * columns }, () => random.gaussian());

/**
 * Directions of random features, `[m, n]`, each row N(0, I) by itself. Orthogonal: rows of one block of n are at right
 * angles to each other (Yu et al. 2016; Choromanski et al. 2021, section 2.4), with the norms of independent Gaussians.
 */
export function randomDirections(random: Random, m: number, n: number, orthogonal: boolean): Float64Array {
  if (!orthogonal) return gaussianMatrix(random, m, n);
  const out = new Float64Array(m * n);
  for (let first = 0; first < m; first += n) {
    const block = haarOrthogonal(random, n);
    for (let i = first; i < Math.min(first + n, m); i++) {
      const norm = Math.hypot(...gaussianMatrix(random, 1, n)); // chi(n)
      for (let j = 0; j < n; j++) out[i * n + j] = norm * block[(i - first) * n + j];
    }
  }
  return out;
}
