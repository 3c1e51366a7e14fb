import { median } from './outputs.ts';

export interface InterleaveOptions {
  /** Blocks per contender and round. */
  readonly blocks?: number;
  /** Least time of a block: calls are repeated inside it. */
  readonly blockMs?: number;
  /** Most rounds: another one is run while the two halves of the blocks disagree. */
  readonly rounds?: number;
  /** Least calls of a contender before its first block. */
  readonly warmCalls?: number;
}

export interface Comparison {
  /** Median time of one call, by contender. */
  readonly mediansMs: readonly number[];
  /** Median over pairs of neighbouring blocks of (contender's time ÷ the first contender's time). */
  readonly ratios: readonly number[];
  /** How far the two halves of the last round's ratios lie apart, at worst. */
  readonly spread: number;
}

const SPREAD_LIMIT = 0.1;

/** What is timed: a call, or what times its own calls elsewhere and gives the milliseconds of one. */
export type Contender = (() => unknown) | { time(repeats: number): Promise<number> };

/**
 * Times contenders A/B/C/A/B/C… in one process. A neighbour on the machine can halve a core for a while, so
 * only ratios of adjacent blocks are compared, and a round whose halves disagree is run again.
 */
export async function interleave(
  contenders: readonly Contender[],
  { blocks = 24, blockMs = 60, rounds = 3, warmCalls = 2 }: InterleaveOptions = {},
): Promise<Comparison> {
  const repeats: number[] = [];
  for (const call of contenders) {
    // The first calls compile and tier up; what they take must not set the length of a block.
    const until = performance.now() + 4 * blockMs;
    let best = Infinity;
    for (let i = 0; i < warmCalls || performance.now() < until; i++)
      best = Math.min(best, await time(call, 1));
    repeats.push(Math.max(1, Math.ceil(blockMs / best)));
  }
  for (let round = 1; ; round++) {
    const times: number[][] = contenders.map(() => []);
    for (let block = 0; block < blocks; block++)
      for (const [i, call] of contenders.entries()) times[i].push(await time(call, repeats[i]));
    const comparison = compare(times);
    if (comparison.spread <= SPREAD_LIMIT || round >= rounds) return comparison;
  }
}

async function time(call: Contender, repeats: number): Promise<number> {
  if (typeof call !== 'function') return call.time(repeats);
  const start = performance.now();
  for (let i = 0; i < repeats; i++) await call();
  return (performance.now() - start) / repeats;
}

/** The comparison of times taken in turn: `times[contender][block]`. */
export function compare(times: readonly (readonly number[])[]): Comparison {
  const pairs = times.map((list) => list.map((t, block) => t / times[0][block]));
  const half = times[0].length >> 1;
  const spreads = pairs.map((list) => {
    if (half === 0) return 0;
    return Math.abs(median(list.slice(0, half)) / median(list.slice(half)) - 1);
  });
  return { mediansMs: times.map(median), ratios: pairs.map(median), spread: Math.max(...spreads) };
}
