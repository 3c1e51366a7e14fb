import { expect, it } from 'vitest';
import { Random } from './random.ts';

it('repeats itself from a seed, and differs between seeds', () => {
  const draw = (seed: number) =>
    Array.from(
      { length: 8 },
      (
        (r) => () =>
          r.uint32()
      )(new Random(seed)),
    );
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
  expect(draw(0).some((x) => x !== 0)).toBe(true);
});

it('draws normal numbers of mean 0 and deviation 1', () => {
  const x = new Random(2).gaussians(100_000);
  const moment = (p: number) => x.reduce((sum, v) => sum + v ** p, 0) / x.length;
  expect(Math.abs(moment(1))).toBeLessThan(0.02);
  expect(Math.abs(moment(2) - 1)).toBeLessThan(0.03);
  expect(Math.abs(moment(4) - 3)).toBeLessThan(0.2);
});

it('draws whole numbers evenly and within their size', () => {
  const counts = new Array(7).fill(0);
  for (const i of new Random(3).integers(70_000, 7)) counts[i]++;
  expect(counts).toHaveLength(7);
  for (const c of counts) expect(Math.abs(c - 10_000)).toBeLessThan(500);
});
