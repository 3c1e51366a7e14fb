import { describe, expect, it } from 'vitest';
import { madeLayer } from '../../../test/made-layer.ts';
import { Random } from '../../tensor/random.ts';
import { symmetricEigen } from './eigen.ts';
import { attentionRows, MeanAttention, spreadRows } from './mean-attention.ts';
import { addGram, addProduct, ridgeSolve } from './ridge.ts';
import { bestSegments, evenSegments } from './segments.ts';
import { orthonormalise, truncatedSvd } from './svd.ts';

const gaussian = (count: number, seed: number): Float64Array =>
  Float64Array.from(new Random(seed).gaussians(count));
const largest = (x: Iterable<number>): number => [...x].reduce((m, v) => Math.max(m, Math.abs(v)), 0);

/** `xᵀ diag(values) y` for rows of x `[k, rows]` and of y `[k, columns]`. */
function compose(values: ArrayLike<number>, x: Float64Array, rows: number, y: Float64Array, columns: number) {
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < values.length; i++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++)
        out[r * columns + c] += values[i] * x[i * rows + r] * y[i * columns + c];
  return out;
}

function expectOrthonormal(x: Float64Array, count: number, size: number): void {
  for (let i = 0; i < count; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += x[i * size + k] * x[j * size + k];
      expect(Math.abs(sum - (i === j ? 1 : 0))).toBeLessThan(1e-9);
    }
}

describe('symmetricEigen', () => {
  it.each([1, 2, 7, 40])('takes a matrix of %d apart and puts it together', (n) => {
    const x = gaussian(n * n, n);
    const a = x.map((v, i) => v + x[(i % n) * n + Math.floor(i / n)]);
    const { values, vectors } = symmetricEigen(a, n);
    expectOrthonormal(vectors, n, n);
    for (let i = 1; i < n; i++) expect(values[i]).toBeLessThanOrEqual(values[i - 1]);
    expect(largest(compose(values, vectors, n, vectors, n).map((v, i) => v - a[i]))).toBeLessThan(1e-11 * n);
  });

  it('knows [[2, 1], [1, 2]] and a diagonal', () => {
    expect([...symmetricEigen(Float64Array.of(2, 1, 1, 2), 2).values]).toEqual([
      expect.closeTo(3, 12),
      expect.closeTo(1, 12),
    ]);
    expect([...symmetricEigen(Float64Array.of(-1, 0, 0, 5), 2).values]).toEqual([5, -1]);
  });
});

describe('truncatedSvd', () => {
  it.each([
    [1, 1],
    [9, 5],
    [30, 50],
    [64, 64],
  ])('gives a matrix of %d × %d back at full rank', (rows, columns) => {
    const a = gaussian(rows * columns, rows);
    const k = Math.min(rows, columns);
    const { values, left, right } = truncatedSvd(a, rows, columns, k);
    expectOrthonormal(left, k, rows);
    expectOrthonormal(right, k, columns);
    expect(largest(compose(values, left, rows, right, columns).map((v, i) => v - a[i]))).toBeLessThan(1e-9);
  });

  it('leaves what the smaller singular values hold, and less the higher k (Eckart and Young 1936)', () => {
    const [rows, columns] = [50, 40];
    const spectrum = Float64Array.from({ length: columns }, (_, i) => 10 * 0.8 ** i);
    const [u, v] = [gaussian(columns * rows, 1), gaussian(columns * columns, 2)];
    orthonormalise(u, columns, rows);
    orthonormalise(v, columns, columns);
    const a = compose(spectrum, u, rows, v, columns);
    let before = Infinity;
    for (const k of [1, 4, 12, 25]) {
      const { values, left, right } = truncatedSvd(a, rows, columns, k);
      const error = Math.hypot(...compose(values, left, rows, right, columns).map((x, i) => x - a[i]));
      expect(error).toBeCloseTo(Math.hypot(...spectrum.subarray(k)), 5);
      expect(error).toBeLessThan(before);
      values.forEach((value, i) => {
        expect(value).toBeCloseTo(spectrum[i], 6);
      });
      before = error;
    }
  });

  it('gives 0 beyond the rank of the matrix', () => {
    const [x, y] = [gaussian(20, 3), gaussian(20, 4)];
    const { values, left, right } = truncatedSvd(compose([2], x, 20, y, 20), 20, 20, 5);
    expect(values[0]).toBeCloseTo(2 * Math.hypot(...x) * Math.hypot(...y), 6);
    expect(largest(values.subarray(1))).toBeLessThan(1e-6);
    expect([...left, ...right].every(Number.isFinite)).toBe(true);
  });
});

describe('ridgeSolve', () => {
  it('finds the coefficients that made the data, and shrinks them as the ridge grows', () => {
    const [rows, n, columns] = [60, 7, 3];
    const x = gaussian(rows * n, 5);
    const wanted = gaussian(n * columns, 6);
    const y = new Float64Array(rows * columns);
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < n; i++)
        for (let c = 0; c < columns; c++) y[r * columns + c] += x[r * n + i] * wanted[i * columns + c];
    const gram = new Float64Array(n * n);
    const right = new Float64Array(n * columns);
    addGram(gram, x, rows, n);
    addProduct(right, x, n, y, columns, rows);
    const exact = ridgeSolve(gram, n, right, columns, 0);
    expect(largest(exact.map((v, i) => v - wanted[i]))).toBeLessThan(1e-12);
    const norms = [0, 0.1, 1, 10].map((ridge) => Math.hypot(...ridgeSolve(gram, n, right, columns, ridge)));
    for (let i = 1; i < norms.length; i++) expect(norms[i]).toBeLessThan(norms[i - 1]);
  });

  it('gives 0 where nothing is known, and refuses what no data can give', () => {
    expect([...ridgeSolve(new Float64Array(4), 2, Float64Array.of(1, 2), 1, 0.1)]).toEqual([0, 0]);
    expect(() => ridgeSolve(Float64Array.of(1, 0, 0, -0.5), 2, Float64Array.of(1, 1), 1, 0)).toThrow(
      expect.objectContaining({ code: 'NOT_POSITIVE' }),
    );
  });
});

describe('bestSegments', () => {
  const lossOf = (gram: Float64Array, n: number, starts: ArrayLike<number>): number => {
    let kept = 0;
    for (let j = 0; j < starts.length; j++) {
      const end = j + 1 < starts.length ? starts[j + 1] : n;
      let sum = 0;
      for (let a = starts[j]; a < end; a++) for (let b = starts[j]; b < end; b++) sum += gram[a * n + b];
      kept += sum / (end - starts[j]);
    }
    return gram.reduce((sum, x, i) => sum + (i % (n + 1) === 0 ? x : 0), 0) - kept;
  };

  it('finds the best of all ways to cut', () => {
    const n = 9;
    const x = gaussian(4 * n, 7);
    const gram = new Float64Array(n * n);
    addGram(gram, x, 4, n);
    for (const count of [1, 2, 3, 4]) {
      let least = Infinity;
      for (let bits = 0; bits < 1 << (n - 1); bits++) {
        const starts = [0];
        for (let i = 1; i < n; i++) if ((bits >> (i - 1)) & 1) starts.push(i);
        if (starts.length === count) least = Math.min(least, lossOf(gram, n, starts));
      }
      // The wish for even sizes weighs about 2 % of a position.
      expect(lossOf(gram, n, bestSegments(gram, n, n, count))).toBeLessThanOrEqual(
        least + 0.03 * largest(gram),
      );
    }
  });

  it('cuts evenly where nothing was seen, and one by one at full rank', () => {
    const none = new Float64Array(16);
    expect([...bestSegments(none, 4, 12, 3)]).toEqual([0, 4, 8]);
    expect([...bestSegments(none, 4, 6, 6)]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...evenSegments(10, 4)]).toEqual([0, 2, 5, 7]);
  });
});

describe('MeanAttention', () => {
  const layer = madeLayer({ index: 0, inputSize: 8, heads: 2, headSize: 4, maxLength: 12 }, 3, 0.3);
  const scale = 0.5;

  it('of one sequence is its attention, up to a factor a row', () => {
    const sample = layer.sample(1, 12);
    const mean = new MeanAttention(layer.shape);
    mean.add(sample);
    const logits = mean.logits(1, 12, 1e-3);
    const attention = attentionRows(sample, 1, spreadRows(12, 12), scale);
    logits.forEach((logit, i) => {
      expect(Math.exp(logit) / 12).toBeCloseTo(Math.max(attention[i], 1e-3 / 12), 6);
    });
  });

  it('grows with longer sequences and counts who has a position', () => {
    const mean = new MeanAttention(layer.shape);
    for (const n of [3, 10, 5]) mean.add(layer.sample(n, n));
    expect(mean.length).toBe(10);
    expect([...mean.presence(12)].map((p) => Math.round(3 * p))).toEqual([
      3, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 0,
    ]);
    const logits = mean.logits(0, 12, 1e-3);
    expect(logits.every(Number.isFinite)).toBe(true);
    const alone = new MeanAttention(layer.shape);
    alone.add(layer.sample(10, 10));
    // Pairs that the longest sequence has alone.
    expect(logits[7 * 12 + 8]).toBeCloseTo(alone.logits(0, 12, 1e-3)[7 * 12 + 8], 5);
    // Pairs that none has take the mean of their distance.
    let sum = 0;
    for (let q = 0; q + 2 < 10; q++) sum += logits[q * 12 + q + 2];
    expect(logits[9 * 12 + 11]).toBeCloseTo(sum / 8, 9);
  });
});
