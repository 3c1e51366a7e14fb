import { describe, expect, it } from 'vitest';
import { budgetMisses, distance, parseBudget, refusalText } from './budget.ts';

const row = {
  sizeBytes: 20e6,
  plannedPeakBytes: 30e6,
  measuredPeakBytes: 40e6,
  latencyMs: { median: 4 },
  drop: { value: 0.02 },
};

describe('parseBudget', () => {
  it('reads units', () => {
    expect(parseBudget({ maxSize: '12MB', maxMemory: '1.5 MiB', maxLatency: '5ms', maxDrop: '1%' })).toEqual({
      maxSizeBytes: 12e6,
      maxMemoryBytes: 1.5 * 2 ** 20,
      maxLatencyMs: 5,
      maxDrop: 0.01,
    });
    expect(parseBudget({ maxLatency: '.5s', maxDrop: '0.02' })).toEqual({ maxLatencyMs: 500, maxDrop: 0.02 });
    expect(parseBudget({})).toEqual({});
  });

  it.each([
    { maxSize: '12 apples' },
    { maxSize: '-1MB' },
    { maxLatency: '5MB' },
    { maxDrop: '5' },
    { maxMemory: '' },
  ])('refuses %j', (text) => {
    expect(() => parseBudget(text)).toThrow(expect.objectContaining({ code: 'BUDGET_INVALID' }));
  });
});

describe('budgetMisses', () => {
  it('names each limit that is broken and by how much', () => {
    expect(
      budgetMisses(row, { maxSizeBytes: 20e6, maxMemoryBytes: 32e6, maxLatencyMs: 2, maxDrop: 0.02 }),
    ).toEqual([
      { limit: 'maxMemoryBytes', allowed: 32e6, got: 40e6, excess: 0.25 },
      { limit: 'maxLatencyMs', allowed: 2, got: 4, excess: 1 },
    ]);
    expect(budgetMisses(row, {})).toEqual([]);
  });

  it('measures the distance by the worst limit', () => {
    expect(distance(budgetMisses(row, { maxSizeBytes: 10e6, maxDrop: 0 }))).toBe(2);
  });
});

it('refuses in words that name the nearest candidate', () => {
  const budget = { maxSizeBytes: 10e6, maxLatencyMs: 3 };
  const near = { ...row, sizeBytes: 11e6 };
  const text = refusalText([
    { name: 'float', misses: budgetMisses(row, budget) },
    { name: 'int8', misses: budgetMisses(near, budget) },
  ]);
  expect(text).toBe(
    'None of 2 candidates meets the budget. Nearest: int8 (size 11.00 MB is 1.00 MB over 10.00 MB; median latency 4 ms is 1 ms over 3 ms).',
  );
});
