/** `⌊√n⌋` of a whole number from 0 to 2^32 − 1, by Newton's iteration in 32 bits (Kim et al. 2021, algorithm 4). */
export function integerSqrt(n: number): number {
  if (n === 0) return 0;
  // Not below the root, as the iteration needs: 2^⌈bits / 2⌉ ≤ 2^16.
  let x = 2 ** ((33 - Math.clz32(n)) >> 1);
  for (;;) {
    const next = Math.floor((x + Math.floor(n / x)) / 2);
    if (next >= x) return x;
    x = next;
  }
}

/** What brings a row to length 2^20: `d · reciprocal / 2^shift`, rounded. */
export interface RowNormalizer {
  readonly reciprocal: number;
  readonly shift: number;
}

/** Rows are brought to this length: an element then has at most 21 bits with its sign. */
export const UNIT_BITS = 20;
/** How far a small sum of squares is raised before its root is taken. */
export const MOST_RAISE = 20;

/**
 * The factor 2^20 / √squares for a row whose squares sum up to `squares`, 0 ≤ squares < 2^62; a row of zeros stays so.
 * The sum is brought to 32 bits by an even power of two (at most 2^20 upwards), so that its root is known to 1 part in
 * 2^15 (in 2^10 where squares < 2^10): one factor for the whole row, which no direction depends on. The reciprocal is
 * at most 2^21, the shift from 1 to 26.
 */
export function rowNormalizer(squares: bigint): RowNormalizer {
  const bits = squares.toString(2).length;
  const raise = Math.min((32 - bits) & ~1, MOST_RAISE);
  const reduced = Number(raise >= 0 ? squares << BigInt(raise) : squares >> BigInt(-raise));
  const root = integerSqrt(reduced);
  return {
    reciprocal: root === 0 ? 0 : Math.floor(2 ** 31 / root),
    shift: 31 - UNIT_BITS - (raise >> 1),
  };
}

/** Σ d², exact. */
export function sumOfSquares(row: ArrayLike<number>): bigint {
  let sum = 0n;
  for (let i = 0; i < row.length; i++) sum += BigInt(row[i]) ** 2n;
  return sum;
}
