import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { Gram } from './gram.ts';
import { probeFeatures } from './probe.ts';

function sumOf(rows: Float32Array, columns: number): Float64Array {
  const out = new Float64Array(columns * columns);
  for (let at = 0; at < rows.length; at += columns)
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++) out[i * columns + j] += rows[at + i] * rows[at + j];
  return out;
}

describe('Gram', () => {
  const levels = [false, probeFeatures().fused].map((fused) => ({ fused }));
  it.each([1, 7, 8, 20, 33])('sums the products of %i columns, at any count of rows', (columns) => {
    for (const features of levels)
      for (const count of [0, 1, 5, 128, 300]) {
        const rows = new Random(columns + count).gaussians(count * columns);
        const gram = new Gram(columns, features);
        gram.add(rows.subarray(0, 3 * columns));
        gram.add(rows.subarray(3 * columns));
        const want = sumOf(rows, columns);
        const got = gram.read();
        for (const [i, v] of want.entries()) expect(Math.abs(got[i] - v)).toBeLessThan(1e-4 * (1 + count));
        expect(gram.read()).toEqual(got);
      }
  });

  it('goes on from where another one stopped', () => {
    const columns = 12;
    const rows = new Random(3).gaussians(40 * columns);
    const [whole, first, second] = [0, 1, 2].map(() => new Gram(columns, { fused: false }));
    first.add(rows.subarray(0, 15 * columns));
    second.restore(first.read());
    second.add(rows.subarray(15 * columns));
    whole.add(rows);
    const got = second.read();
    for (const [i, v] of whole.read().entries()) expect(got[i]).toBeCloseTo(v, 4);
  });
});
