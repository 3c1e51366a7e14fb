import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attend, initialise, madeLayer, relativeError } from '../../../test/made-layer.ts';
import { runReferenceAll } from '../../backend/reference/interpreter.ts';
import { projectRows } from '../../program/ops/project-rows.ts';
import { trace } from '../../program/trace.ts';
import { encode } from '../../tensor/codec.ts';
import { symbol } from '../../tensor/dim.ts';
import { Random } from '../../tensor/random.ts';
import type { Initialised } from '../mechanism.ts';
import dense from './dense.ts';
import linformer from './linformer.ts';

const N = 40;
const layer = madeLayer({ index: 0, inputSize: 24, heads: 2, headSize: 12, maxLength: N }, 1, 0.5);
const calibration = Array.from({ length: 24 }, (_, i) => layer.sample(100 + i, i % 3 === 0 ? 25 : N));
const heldOut = Array.from({ length: 8 }, (_, i) => layer.sample(900 + i, i % 2 === 0 ? N : 25));
const ragged = [N, 13, 1, 0, 7].map((n, i) => layer.sample(50 + i, n));
const SHARES = ['layer', 'key-value', 'head'] as const;

const errorOf = (rank: number, share: string, made: Initialised): number =>
  relativeError(attend(linformer, { rank, share }, layer, heldOut, made), attend(dense, {}, layer, heldOut));

/** Rows of Gaussian numbers whose expected norm is that of an average over N / r tokens. */
function gaussianMatrices(made: Initialised, rank: number): Initialised {
  const random = new Random(4);
  return new Map(
    [...made].map(([name, tensor]) => [
      name,
      { shape: tensor!.shape, data: random.gaussians(tensor!.data.length, Math.sqrt(rank) / N) },
    ]),
  );
}

describe('linformer', () => {
  it.each(SHARES)('is dense attention at rank N, for every length: shared by %s', async (share) => {
    for (const samples of [null, calibration]) {
      const made = await initialise(linformer, { rank: N, share }, layer, samples);
      const got = attend(linformer, { rank: N, share }, layer, ragged, made);
      expect(relativeError(got, attend(dense, {}, layer, ragged))).toBeLessThan(1e-5);
    }
  });

  it.each(SHARES)('loses less the higher its rank: shared by %s', async (share) => {
    const errors: number[] = [];
    for (const rank of [2, 8, 20, 32, N])
      errors.push(errorOf(rank, share, await initialise(linformer, { rank, share }, layer, calibration)));
    for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]);
  });

  it.each(SHARES)('made from text beats even runs, and these beat chance: shared by %s', async (share) => {
    const rank = 12;
    const fitted = await initialise(linformer, { rank, share }, layer, calibration);
    const even = await initialise(linformer, { rank, share }, layer, null);
    const best = errorOf(rank, share, fitted);
    // One matrix for both can but choose the runs; one for values also makes good what they lose.
    expect(best).toBeLessThan((share === 'layer' ? 1 : 0.9) * errorOf(rank, share, even));
    expect(best).toBeLessThan(0.8 * errorOf(rank, share, gaussianMatrices(even, rank)));
  });

  it.each(SHARES)('gives the positions of short texts rows of their own: shared by %s', async (share) => {
    const options = { rank: 12, share };
    const texts = (from: number) => Array.from({ length: 8 }, (_, i) => layer.sample(from + i, 7 + (i % 4)));
    const want = attend(dense, {}, layer, texts(900));
    const fitted = await initialise(linformer, options, layer, texts(100));
    const even = await initialise(linformer, options, layer, null);
    expect(relativeError(attend(linformer, options, layer, texts(900), fitted), want)).toBeLessThan(1e-5);
    expect(relativeError(attend(linformer, options, layer, texts(900), even), want)).toBeGreaterThan(0.3);
  });

  it('fits values the better the fewer share a matrix', async () => {
    const errors: number[] = [];
    for (const share of SHARES)
      errors.push(errorOf(8, share, await initialise(linformer, { rank: 8, share }, layer, calibration)));
    expect(errors[1]).toBeLessThan(errors[0]);
    expect(errors[2]).toBeLessThan(errors[1]);
  });

  it.each(SHARES)('does not see padding: shared by %s', async (share) => {
    const made = await initialise(linformer, { rank: 9, share }, layer, calibration);
    const short = ragged.filter(({ n }) => n <= 13);
    const alone = attend(linformer, { rank: 9, share }, layer, short, made);
    const padded = attend(linformer, { rank: 9, share }, layer, short, made, N, 1e3);
    padded.forEach((rows, i) => {
      expect(rows).toEqual(alone[i]);
    });
  });

  it('refuses a rank beyond the longest text', () => {
    expect(linformer.refuse!(layer.shape, { rank: N + 1 } as never)).toContain('dense');
    expect(linformer.refuse!(layer.shape, { rank: N } as never)).toBeNull();
  });
});

describe('projectRows', () => {
  it('counts the rows that a sequence can fill', () => {
    const shapes = fc.record({
      r: fc.integer({ min: 1, max: 9 }),
      columns: fc.integer({ min: 1, max: 12 }),
      sets: fc.integer({ min: 1, max: 2 }),
      lengths: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 4 }),
      seed: fc.nat(1000),
    });
    fc.assert(
      fc.property(shapes, ({ r, columns, sets, lengths, seed }) => {
        const random = new Random(seed);
        const matrix = Float32Array.from({ length: sets * r * columns }, () =>
          random.uniform() < 0.15 ? 1 : 0,
        );
        const weights = new Map([['e', encode('float32', [sets, r, columns], matrix)]]);
        const B = lengths.length;
        const program = trace(weights, (t) => {
          const value = t.input('x', 'float32', [2, symbol('B'), symbol('N'), 8]);
          const at = t.input('lengths', 'int32', [symbol('B')]);
          t.output(projectRows(t, { value, from: 0 }, 2, t.parameter('e'), at).rows);
        });
        const x = random.gaussians(2 * B * columns * 8);
        const all = runReferenceAll(program, weights, { x, lengths }, { B, N: columns }, 256);
        const counts = [...all.entries()].find(([name]) => name.endsWith('.counts'))![1].data;
        lengths.forEach((length, b) => {
          const sees = (j: number) =>
            matrix.some((w, i) => w !== 0 && i % columns < length && Math.floor(i / columns) % r === j);
          const last = Array.from({ length: r }, (_, j) => j).findLast(sees) ?? -1;
          expect(counts[b]).toBe(last + 1);
        });
      }),
      { seed: 1, numRuns: 60 },
    );
  });
});
