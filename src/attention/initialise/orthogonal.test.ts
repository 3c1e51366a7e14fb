import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { gaussianMatrix, haarOrthogonal, householderQr, randomDirections } from './orthogonal.ts';

/** A fair draw falls outside once in 150,000. */
const SIGMAS = 4.5;

const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / x.length;

describe('QR by reflections', () => {
  it.each([1, 2, 3, 8, 33, 64])(
    'gives Q with QᵀQ = I, and QᵀA upper triangular with the diagonal, n = %d',
    (n) => {
      const a = gaussianMatrix(new Random(n), n, n);
      const { q, diagonal } = householderQr(a, n);
      const product = (x: Float64Array, y: Float64Array, i: number, j: number) => {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += x[k * n + i] * y[k * n + j];
        return sum;
      };
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++) {
          expect(Math.abs(product(q, q, i, j) - (i === j ? 1 : 0))).toBeLessThan(1e-12);
          if (j < i) expect(Math.abs(product(q, a, i, j))).toBeLessThan(1e-11);
          if (j === i) expect(Math.abs(product(q, a, i, i) - diagonal[i])).toBeLessThan(1e-11);
        }
    },
  );

  it('leaves a column of zeros as it is', () => {
    const { q, diagonal } = householderQr(Float64Array.of(0, 1, 0, 2), 2);
    expect([...q].every(Number.isFinite)).toBe(true);
    expect(diagonal[0]).toBe(-0 + 0);
  });
});

describe('rotations', () => {
  const [n, draws] = [4, 4000];
  const limit = SIGMAS / Math.sqrt(draws);
  const trace = (q: Float64Array) => q[0] + q[5] + q[10] + q[15];

  // Diaconis and Shahshahani 1994: over Haar measure the trace has mean 0 and variance 1, an entry variance 1/n.
  it('are drawn evenly: traces and corners average 0, their squares 1 and 1/n', () => {
    const random = new Random(11);
    const all = Array.from({ length: draws }, () => haarOrthogonal(random, n));
    expect(Math.abs(mean(all.map(trace)))).toBeLessThan(limit);
    expect(Math.abs(mean(all.map((q) => trace(q) ** 2)) - 1)).toBeLessThan(2 * limit);
    for (const corner of [0, 15]) {
      expect(Math.abs(mean(all.map((q) => q[corner])))).toBeLessThan(limit / 2);
      expect(Math.abs(mean(all.map((q) => q[corner] ** 2)) - 1 / n)).toBeLessThan(limit);
    }
  });

  it('look the same after a fixed rotation', () => {
    const random = new Random(12);
    const fixed = haarOrthogonal(new Random(99), n);
    const corners = Array.from({ length: draws }, () => {
      const q = haarOrthogonal(random, n);
      let corner = 0;
      for (let k = 0; k < n; k++) corner += fixed[k] * q[k * n];
      return corner;
    });
    expect(Math.abs(mean(corners))).toBeLessThan(limit / 2);
  });

  it('would not be without the signs of R', () => {
    const random = new Random(11);
    const plain = Array.from({ length: draws }, () => householderQr(gaussianMatrix(random, n, n), n).q);
    expect(mean(plain.map((q) => q[0]))).toBeLessThan(-0.3);
    expect(Math.abs(mean(plain.map(trace)))).toBeGreaterThan(10 * limit);
  });
});

describe('random directions', () => {
  it('are at right angles within a block, of the norms of Gaussians', () => {
    const [m, n] = [20, 8];
    const rows = randomDirections(new Random(5), m, n, true);
    const dot = (i: number, j: number) => {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += rows[i * n + k] * rows[j * n + k];
      return sum;
    };
    for (let i = 0; i < m; i++)
      for (let j = 0; j < i; j++)
        if (Math.floor(i / n) === Math.floor(j / n)) expect(Math.abs(dot(i, j))).toBeLessThan(1e-11);
    expect(Math.abs(dot(0, n))).toBeGreaterThan(1e-6);
  });

  it.each([true, false])('have chi-squared norms, orthogonal: %s', (orthogonal) => {
    const [m, n] = [4000, 8];
    const rows = randomDirections(new Random(6), m, n, orthogonal);
    const squares = Array.from({ length: m }, (_, i) => {
      const row = rows.subarray(i * n, (i + 1) * n);
      return row.reduce((sum, x) => sum + x * x, 0);
    });
    // Mean n and variance 2n.
    expect(Math.abs(mean(squares) - n)).toBeLessThan(SIGMAS * Math.sqrt((2 * n) / m));
    expect(mean(squares.map((s) => (s - n) ** 2)) / (2 * n)).toBeGreaterThan(0.85);
    expect(mean(squares.map((s) => (s - n) ** 2)) / (2 * n)).toBeLessThan(1.15);
  });
});
