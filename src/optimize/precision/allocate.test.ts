import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AllocationUnit, allocate } from './allocate.ts';

const option = (resources: number, numbers: fc.Arbitrary<number>) =>
  fc.record({
    costs: fc.array(numbers, { minLength: resources, maxLength: resources }),
    loss: numbers,
  });
const unitsOf = (resources: number, numbers: fc.Arbitrary<number>) =>
  fc
    .array(fc.array(option(resources, numbers), { minLength: 1, maxLength: 4 }), { maxLength: 6 })
    .map((all) => all.map((options, i): AllocationUnit => ({ name: `unit ${i}`, options })));
const whole = fc.integer({ min: 0, max: 20 });
const real = fc.double({ min: 0, max: 20, noNaN: true, noDefaultInfinity: true });

/** Every choice, one by one. */
function exhaustive(units: readonly AllocationUnit[], limits: readonly number[]): number | null {
  let best: number | null = null;
  const walk = (at: number, costs: readonly number[], loss: number): void => {
    if (at < units.length) {
      for (const o of units[at].options)
        walk(
          at + 1,
          costs.map((cost, i) => cost + o.costs[i]),
          loss + o.loss,
        );
    } else if (costs.every((cost, i) => cost <= limits[i]) && (best === null || loss < best)) best = loss;
  };
  walk(
    0,
    limits.map(() => 0),
    0,
  );
  return best;
}

function expectEqual(units: readonly AllocationUnit[], limits: readonly number[]): void {
  const best = exhaustive(units, limits);
  if (best === null) {
    expect(() => allocate(units, limits)).toThrow(expect.objectContaining({ code: 'ALLOCATION_INFEASIBLE' }));
    return;
  }
  const found = allocate(units, limits);
  expect(found.exact).toBe(true);
  expect(found.loss).toBeCloseTo(best, 9);
  const sum = (of: (o: AllocationUnit['options'][number]) => number) =>
    found.choice.reduce((total, o, u) => total + of(units[u].options[o]), 0);
  expect(sum(({ loss }) => loss)).toBeCloseTo(found.loss, 9);
  limits.forEach((limit, i) => {
    expect(sum(({ costs }) => costs[i])).toBeCloseTo(found.costs[i], 9);
    expect(found.costs[i]).toBeLessThanOrEqual(limit);
  });
}

describe('allocate equals exhaustive search', () => {
  it.each([
    ['whole costs', whole],
    ['real costs', real],
  ])('under one limit, with %s', (_, numbers) => {
    fc.assert(
      fc.property(unitsOf(1, numbers), fc.double({ min: 0, max: 60, noNaN: true }), (units, limit) =>
        expectEqual(units, [limit]),
      ),
      { numRuns: 400 },
    );
  });

  it.each([2, 3])('under %i limits at once', (resources) => {
    const limits = fc.array(fc.double({ min: 0, max: 80, noNaN: true }), {
      minLength: resources,
      maxLength: resources,
    });
    fc.assert(
      fc.property(unitsOf(resources, whole), limits, (units, all) => expectEqual(units, all)),
      { numRuns: 400 },
    );
  });

  it('under a limit that does not bind beside one that does, and under none', () => {
    fc.assert(
      fc.property(unitsOf(2, whole), whole, (units, limit) => {
        expectEqual(units, [limit, Infinity]);
        expectEqual(units, [Infinity, Infinity]);
      }),
    );
  });

  it('with losses of very different sizes, as widths from 1 to 16 bits give', () => {
    const tiny = fc.integer({ min: -9, max: 2 }).map((power) => 10 ** power);
    fc.assert(fc.property(unitsOf(1, tiny), tiny, (units, limit) => expectEqual(units, [limit * 3])));
  });
});

/** As many units as a model of twelve layers has, each in ten widths. */
const large = (resources: number): AllocationUnit[] =>
  Array.from({ length: 75 }, (_, u) => ({
    name: `unit ${u}`,
    options: Array.from({ length: 10 }, (_, w) => ({
      costs: Array.from(
        { length: resources },
        (_, i) => (1 + (u % 3)) * (i === 0 ? 512 * (w + 1) : 900 + ((w * 7 + u * i) % 10) * 31),
      ),
      loss: (1 + ((u * 37) % 11)) * 4 ** -w,
    })),
  }));

it('takes no time to speak of for a large model, and says so where it had to leave choices out', () => {
  const units = large(1);
  const found = allocate(units, [600_000]);
  expect(found.exact).toBe(true);
  expect(found.costs[0]).toBeLessThanOrEqual(600_000);

  const two = allocate(large(2), [600_000, 155_000], { maxStates: 50 });
  expect(two.costs[1]).toBeLessThanOrEqual(155_000);
  expect(two.loss).toBeGreaterThanOrEqual(found.loss);
  expect(two.exact).toBe(false);
});

describe('allocate refuses', () => {
  it('limits that cannot be kept, naming the least', () => {
    const units = [{ name: 'a', options: [{ costs: [5], loss: 1 }] }];
    expect(() => allocate(units, [4])).toThrow(
      expect.objectContaining({
        code: 'ALLOCATION_INFEASIBLE',
        fields: { least: [5], limits: [4] },
        message: expect.stringContaining('expected at least 5, got 4'),
      }),
    );
  });

  it('a unit without an option, and figures that are none', () => {
    expect(() => allocate([{ name: 'a', options: [] }], [4])).toThrow(
      expect.objectContaining({ code: 'ALLOCATION_EMPTY', fields: { unit: 'a' } }),
    );
    for (const bad of [NaN, -1, Infinity])
      for (const o of [
        { costs: [bad], loss: 1 },
        { costs: [1], loss: bad },
      ])
        expect(() => allocate([{ name: 'a', options: [o] }], [4])).toThrow(
          expect.objectContaining({ code: 'ALLOCATION_NUMBER' }),
        );
  });
});
