import { describe, expect, it } from 'vitest';
import { codeFormat, type WeightSpec } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { cholesky } from './cholesky.ts';
import { valuesOf } from './chosen-codes.ts';
import { roundToNearest } from './fit.ts';
import { gptq } from './gptq.ts';
import { outputError } from './output-error.ts';

/** Rows that have much in common: a few directions carry most of them, one column is far larger. */
function correlated(random: Random, rows: number, columns: number): Float32Array {
  const directions = random.gaussians(6 * columns);
  const out = random.gaussians(rows * columns, 0.3);
  for (let r = 0; r < rows; r++) {
    for (let d = 0; d < 6; d++) {
      const part = random.gaussian();
      for (let c = 0; c < columns; c++) out[r * columns + c] += part * directions[d * columns + c];
    }
    out[r * columns] *= 5;
  }
  return out;
}

function momentsOf(x: Float32Array, columns: number): Float32Array {
  const rows = x.length / columns;
  const out = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++)
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += x[r * columns + i] * x[r * columns + j];
      out[i * columns + j] = sum / rows;
    }
  return out;
}

/** Solves A X = I by Gauss and Jordan: another way than the one under test. */
function inverse(a: Float64Array, n: number): Float64Array {
  const left = a.slice();
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  for (let p = 0; p < n; p++) {
    const pivot = left[p * n + p];
    for (let c = 0; c < n; c++) {
      left[p * n + c] /= pivot;
      out[p * n + c] /= pivot;
    }
    for (let r = 0; r < n; r++) {
      const factor = left[r * n + p];
      if (r === p || factor === 0) continue;
      for (let c = 0; c < n; c++) {
        left[r * n + c] -= factor * left[p * n + c];
        out[r * n + c] -= factor * out[p * n + c];
      }
    }
  }
  return out;
}

/** Algorithm 1 of the paper word for word: U = chol(H⁻¹)ᵀ, and each column's error pushed onto those to its right. */
function byThePaper(spec: WeightSpec, values: Float32Array, moments: Float32Array, damping: number) {
  const [rows, columns] = spec.shape;
  const h = Float64Array.from(moments, (v) => 2 * v);
  let mean = 0;
  for (let c = 0; c < columns; c++) mean += h[c * columns + c] / columns;
  for (let c = 0; c < columns; c++) h[c * columns + c] += damping * mean;
  const lower = inverse(h, columns);
  cholesky(lower, columns);
  const u = (i: number, j: number) => lower[j * columns + i];
  const { scales } = roundToNearest(spec, values, 'max');
  const { high } = codeFormat(spec);
  const codes: number[] = [];
  for (let r = 0; r < rows; r++) {
    const w = Float64Array.from(values.subarray(r * columns, (r + 1) * columns));
    for (let i = 0; i < columns; i++) {
      const code = Math.max(-high, Math.min(high, Math.round(w[i] / scales[r])));
      codes.push(code + 0);
      const error = (w[i] - code * scales[r]) / u(i, i);
      for (let j = i; j < columns; j++) w[j] -= error * u(i, j);
    }
  }
  return codes;
}

describe('cholesky', () => {
  it.each([1, 3, 4, 7, 20])('gives the factor of a matrix of %i rows', (n) => {
    const a = momentsOf(new Random(n).gaussians(4 * n * n), n);
    const lower = Float64Array.from(a);
    cholesky(lower, n);
    for (let i = 0; i < n; i++)
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let k = 0; k <= j; k++) sum += lower[i * n + k] * lower[j * n + k];
        expect(sum).toBeCloseTo(a[i * n + j], 5);
      }
  });

  it('refuses a matrix that is not positive definite', () => {
    expect(() => cholesky(Float64Array.of(1, 2, 2, 1), 2)).toThrow(
      expect.objectContaining({ code: 'NOT_POSITIVE_DEFINITE' }),
    );
  });
});

describe('gptq', () => {
  const random = new Random(7);
  const columns = 64;
  const x = correlated(random, 400, columns);
  const moments = momentsOf(x, columns);
  const values = random.gaussians(24 * columns, 0.05);
  const shape = [24, columns];
  const errorOf = (spec: WeightSpec, rounded: Float32Array) => {
    const { error, power } = outputError(values, rounded, moments, columns);
    expect(spec.shape).toEqual(shape);
    return error / power;
  };

  it('chooses the codes of the paper’s algorithm', () => {
    for (const codec of ['int8', 'int4'] as const) {
      const spec: WeightSpec = { codec, shape, scaleType: 'float32' };
      const { codes } = gptq(spec, values, moments, { order: 'columns', clipping: 'max', damping: 0.01 });
      expect([...codes]).toEqual(byThePaper(spec, values, moments, 0.01));
    }
  });

  const specs: WeightSpec[] = [
    { codec: 'int8', shape },
    { codec: 'int4', shape },
    { codec: 'int4', shape, groupSize: 32 },
    { codec: 'int4', shape, groupSize: 32, scheme: 'affine' },
    { codec: 'int2', shape, groupSize: 32, scheme: 'affine' },
    { codec: 'ternary', shape, groupSize: 32 },
    { codec: 'binary', shape, groupSize: 32 },
    { codec: 'binary', shape },
  ];
  it.each(specs)('loses less output than rounding to nearest: $codec $groupSize $scheme', (spec) => {
    const nearest = errorOf(spec, valuesOf(spec, roundToNearest(spec, values, 'mse')));
    for (const order of ['columns', 'activation', 'groups'] as const)
      for (const clipping of ['max', 'mse'] as const) {
        const chosen = gptq(spec, values, moments, { order, clipping });
        const { low, high } = codeFormat(spec);
        expect(chosen.codes.every((code) => code >= low && code <= high)).toBe(true);
        if (clipping === 'mse') expect(errorOf(spec, valuesOf(spec, chosen)) * 1.25).toBeLessThan(nearest);
      }
  });

  it('rounds to nearest where inputs have nothing in common', () => {
    const alone = new Float32Array(columns * columns);
    for (let c = 0; c < columns; c++) alone[c * columns + c] = 1;
    const spec: WeightSpec = { codec: 'int4', shape, groupSize: 32 };
    for (const order of ['columns', 'activation', 'groups'] as const)
      expect(gptq(spec, values, alone, { order })).toEqual(roundToNearest(spec, values, 'mse'));
    const silent = new Float32Array(columns * columns);
    expect(gptq(spec, values, silent)).toEqual(roundToNearest(spec, values, 'mse'));
  });

  it('bears columns that are never fed, rows of zeros and a row count that fills no tile', () => {
    const some = moments.slice();
    for (let c = 0; c < columns; c++) some[c * columns + 5] = some[5 * columns + c] = 0;
    const few = values.slice(0, 3 * columns);
    few.fill(0, columns, 2 * columns);
    const spec: WeightSpec = { codec: 'int4', shape: [3, columns], groupSize: 32 };
    const rounded = valuesOf(spec, gptq(spec, few, some));
    expect(rounded.every(Number.isFinite)).toBe(true);
    expect(rounded.slice(columns, 2 * columns)).toEqual(new Float32Array(columns));
  });

  it('refuses moments of another width, one scale for all, and weights that are not finite', () => {
    const spec: WeightSpec = { codec: 'int4', shape };
    const refused = (s: WeightSpec, m: Float32Array) => () => gptq(s, values, m);
    expect(refused(spec, moments.slice(1))).toThrow(expect.objectContaining({ code: 'GPTQ_SHAPE' }));
    expect(refused({ codec: 'int8', shape, perTensor: true }, moments)).toThrow(
      expect.objectContaining({ code: 'GPTQ_SHAPE' }),
    );
    const broken = values.slice();
    broken[70] = Number.NaN;
    expect(() => gptq(spec, broken, moments)).toThrow(expect.objectContaining({ code: 'WEIGHT_NOT_FINITE' }));
  });
});
