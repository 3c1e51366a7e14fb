import { describe, expect, it } from 'vitest';
import { compare } from './check.ts';

describe('compare', () => {
  const budget = { absolute: 0.1, relative: 0.01 };
  it('allows absolute + relative · the largest reference', () => {
    const want = Float64Array.from([10, -90]);
    expect(compare(budget, [10.9, -90], want)).toMatchObject({ ok: true, index: 0 });
    expect(compare(budget, [10, -91.1], want)).toMatchObject({ ok: false, index: 1 });
  });
  it('holds NaN and infinity to their places', () => {
    const want = Float64Array.from([NaN, 1e60, 1]);
    expect(compare(budget, [NaN, Infinity, 1], want)).toMatchObject({ ok: true, worst: 0, limit: 0.11 });
    for (const got of [
      [0, Infinity, 1],
      [NaN, 3e38, 1],
      [NaN, Infinity, NaN],
      [NaN, Infinity, Infinity],
      [1],
    ])
      expect(compare(budget, got, want)).toMatchObject({ ok: false, worst: Infinity });
  });
});
