import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normalizeRow } from '../../program/ops/row-attention.ts';

const row = (...x: number[]) => Float64Array.from(x);
const scores = fc
  .array(fc.double({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 40 })
  .map((x) => Float64Array.from(x));
const sum = (x: Float64Array) => x.reduce((a, b) => a + b, 0);

describe('sparsemax', () => {
  it('gives the weights of its paper', () => {
    const got = normalizeRow(row(1.5, 1, 0.2, -1), { kind: 'sparsemax' });
    [0.75, 0.25, 0, 0].forEach((want, i) => {
      expect(got[i]).toBeCloseTo(want, 12);
    });
  });

  it('is the nearest point of the simplex', () => {
    fc.assert(
      fc.property(scores, fc.infiniteStream(fc.double({ min: 0.001, max: 1, noNaN: true })), (z, stream) => {
        const p = normalizeRow(z, { kind: 'sparsemax' });
        const other = Float64Array.from(z, () => stream.next().value as number);
        const total = sum(other);
        const distance = (x: Float64Array) => x.reduce((d, v, i) => d + (v - z[i]) ** 2, 0);
        return Math.abs(sum(p) - 1) < 1e-9 && distance(p) <= distance(other.map((v) => v / total)) + 1e-9;
      }),
    );
  });
});

describe('entmax', () => {
  it('sums to 1, keeps the order, and meets its own condition', () => {
    fc.assert(
      fc.property(scores, (z) => {
        const p = normalizeRow(z, { kind: 'entmax15' });
        expect(sum(p)).toBeCloseTo(1, 9);
        // Where p > 0, √p = z/2 − τ with one τ for all; elsewhere z/2 ≤ τ.
        const taus = [...p].flatMap((v, i) => (v > 0 ? [z[i] / 2 - Math.sqrt(v)] : []));
        const tau = taus[0];
        for (const t of taus) expect(t).toBeCloseTo(tau, 6);
        p.forEach((v, i) => {
          if (v === 0) expect(z[i] / 2).toBeLessThanOrEqual(tau + 1e-9);
        });
      }),
    );
  });

  it('keeps more than sparsemax and fewer than softmax', () => {
    const z = row(2, 1.2, 0.4, -0.3, -1, -4);
    const support = (kind: 'sparsemax' | 'entmax15') => normalizeRow(z, { kind }).filter((w) => w > 0).length;
    expect(support('sparsemax')).toBeLessThan(support('entmax15'));
    expect(support('entmax15')).toBeLessThan(z.length);
  });
});

describe('k winners', () => {
  it('are the softmax of the largest, the earlier of equal ones first', () => {
    const e = Math.exp(-1);
    const got = normalizeRow(row(1, 2, 1, 1, 0), { kind: 'topK', k: 3 });
    [e, 1, e, 0, 0].forEach((w, i) => {
      expect(got[i]).toBeCloseTo(w / (1 + 2 * e), 12);
    });
  });

  it('are softmax where all win', () => {
    fc.assert(
      fc.property(scores, (z) => {
        const largest = Math.max(...z);
        const total = sum(z.map((x) => Math.exp(x - largest)));
        const got = normalizeRow(z, { kind: 'topK', k: 1000 });
        z.forEach((x, i) => {
          expect(got[i]).toBeCloseTo(Math.exp(x - largest) / total, 12);
        });
      }),
    );
  });
});
