import { describe, expect, it } from 'vitest';
import { choose, goalOf, paretoFront } from './search.ts';

const row = (sizeBytes: number, median: number, drop: number, meetsBudget = true) => ({
  sizeBytes,
  plannedPeakBytes: sizeBytes,
  latencyMs: { median, p95: median, samples: 1 },
  drop: { value: drop, low: drop, high: drop },
  meetsBudget,
});

describe('choose', () => {
  it('takes the least drop, then the smaller, then the faster', () => {
    const rows = [row(9, 1, 0), row(5, 3, 0), row(5, 2, 0), row(1, 1, 0.1)];
    expect(choose(rows, 'least-drop')).toBe(rows[2]);
  });

  it('takes the smallest, then the faster', () => {
    const rows = [row(9, 1, 0), row(5, 3, 0), row(5, 2, 0.01), row(1, 1, 0.5, false)];
    expect(choose(rows, 'smallest')).toBe(rows[2]);
  });

  it('takes nothing where nothing fits', () => {
    expect(choose([row(1, 1, 0, false)], 'smallest')).toBeNull();
  });
});

it('marks rows that no other beats', () => {
  expect(paretoFront([row(9, 9, 0), row(5, 5, 0.1), row(6, 5, 0.1), row(5, 5, 0.1)])).toEqual([
    true,
    true,
    false,
    true,
  ]);
});

it('aims for the smallest unless a resource is limited', () => {
  expect(goalOf({ maxDrop: 0.01 })).toBe('smallest');
  expect(goalOf({ maxDrop: 0.01, maxLatencyMs: 5 })).toBe('least-drop');
});
