import type { OpDefinition } from '../../src/program/op.ts';

export interface Comparison {
  readonly ok: boolean;
  /** The largest |y − r| over finite values; infinite when NaN or infinity stand in different places. */
  readonly worst: number;
  /** What the budget allows: absolute + relative · max|r|. */
  readonly limit: number;
  /** Where the worst error is. */
  readonly index: number;
  /** One line for a failing test. */
  readonly message: string;
}

/**
 * Holds a backend's output against the reference within an op's budget. NaN must stand where the reference has
 * NaN, and an infinity where the reference, rounded to float32, has that infinity.
 */
export function compare(
  budget: OpDefinition['budget'],
  got: ArrayLike<number>,
  want: Float64Array,
): Comparison {
  let largest = 0;
  for (const r of want) if (Number.isFinite(Math.fround(r))) largest = Math.max(largest, Math.abs(r));
  const limit = budget.absolute + budget.relative * largest;
  let [worst, index] = [0, 0];
  if (got.length !== want.length) worst = Infinity;
  else
    for (let i = 0; i < want.length; i++) {
      const error = errorOf(got[i], want[i]);
      if (error > worst) [worst, index] = [error, i];
    }
  const ok = worst <= limit;
  const message =
    got.length === want.length
      ? `worst error ${worst} of ${limit} allowed, at ${index}: expected ${want[index]}, got ${got[index]}`
      : `expected ${want.length} values, got ${got.length}`;
  return { ok, worst, limit, index, message };
}

function errorOf(got: number, want: number): number {
  if (Number.isNaN(want)) return Number.isNaN(got) ? 0 : Infinity;
  const rounded = Math.fround(want);
  if (!Number.isFinite(rounded)) return got === rounded ? 0 : Infinity;
  const error = Math.abs(got - want);
  return Number.isNaN(error) ? Infinity : error;
}
