import { hashPair, type IntegerExpression, type MaskExpression } from './expression.ts';

/** Smallest and largest value, both included. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** A rectangle of pairs for one head. */
export interface PairRanges {
  readonly query: Interval;
  readonly key: Interval;
  readonly head: number;
  readonly keys?: number;
}

export type BlockClass = 'full' | 'empty' | 'partial';

const HASHES: Interval = { low: 0, high: 2 ** 31 - 1 };
const UNKNOWN: Interval = { low: -Infinity, high: Infinity };

/** Whole numbers beyond this are not exact, and nothing is concluded from them. */
const exact = (x: Interval): Interval =>
  Math.abs(x.low) <= Number.MAX_SAFE_INTEGER && Math.abs(x.high) <= Number.MAX_SAFE_INTEGER ? x : UNKNOWN;

const hull = (...values: number[]): Interval =>
  exact({ low: Math.min(...values), high: Math.max(...values) });

/** Bounds on an expression's value over a rectangle of pairs (Moore 1966): sound, not always tight. */
export function rangeOf(e: IntegerExpression, ranges: PairRanges): Interval {
  switch (e.op) {
    case 'query':
      return ranges.query;
    case 'key':
      return ranges.key;
    case 'head':
      return hull(ranges.head);
    case 'keys':
      return hull(ranges.keys ?? 0);
    case 'constant':
      return hull(e.value);
    case 'lookup':
      return among(e.table, rangeOf(e.a, ranges));
  }
  const a = rangeOf(e.a, ranges);
  const b = rangeOf(e.b, ranges);
  if (a === UNKNOWN || b === UNKNOWN) return UNKNOWN;
  switch (e.op) {
    case 'add':
      return hull(a.low + b.low, a.high + b.high);
    case 'sub':
      return hull(a.low - b.high, a.high - b.low);
    case 'mul':
      return hull(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high);
    case 'div':
      return quotient(a, b);
    case 'mod':
      return remainder(a, b);
    case 'hash':
      return a.low === a.high && b.low === b.high ? hull(hashPair(a.low, b.low)) : HASHES;
  }
}

/** Bounds on the entries of a table that an index may hit, and −1 where it may miss. */
function among(table: readonly number[], { low, high }: Interval): Interval {
  const outside = low < 0 || high >= table.length;
  let [least, most] = outside ? [-1, -1] : [Infinity, -Infinity];
  for (let i = Math.max(0, low); i <= Math.min(high, table.length - 1); i++) {
    least = Math.min(least, table[i]);
    most = Math.max(most, table[i]);
  }
  return { low: least, high: most };
}

function quotient(a: Interval, b: Interval): Interval {
  const values: number[] = [];
  if (b.low <= 0 && b.high >= 0) values.push(0);
  const divisors = [];
  if (b.low < 0) divisors.push(b.low, Math.min(b.high, -1));
  if (b.high > 0) divisors.push(Math.max(b.low, 1), b.high);
  for (const d of divisors) values.push(Math.floor(a.low / d), Math.floor(a.high / d));
  return hull(...values);
}

function remainder(a: Interval, b: Interval): Interval {
  const largest = Math.max(Math.abs(b.low), Math.abs(b.high));
  if (largest === 0) return hull(0);
  const smallest = b.low > 0 ? b.low : b.high < 0 ? -b.high : 0;
  if (smallest === largest) {
    const turn = Math.floor(a.low / largest);
    if (turn === Math.floor(a.high / largest))
      return { low: a.low - turn * largest, high: a.high - turn * largest };
  } else if (smallest > 0 && a.low >= 0 && a.high < smallest) return a;
  return { low: 0, high: largest - 1 };
}

/** Whether a mask keeps every pair of a rectangle, none, or (as far as bounds tell) some. */
export function classify(e: MaskExpression, ranges: PairRanges): BlockClass {
  const rest = narrow(e, ranges);
  return typeof rest === 'string' ? rest : 'partial';
}

/**
 * What of a mask is undecided on a rectangle: `full`, `empty`, or the expression or the part of it (the very same
 * object) that decides there.
 */
export function narrow(e: MaskExpression, ranges: PairRanges): MaskExpression | 'full' | 'empty' {
  switch (e.op) {
    case 'not': {
      const a = narrow(e.a, ranges);
      return a === 'full' ? 'empty' : a === 'empty' ? 'full' : e;
    }
    case 'and':
    case 'or': {
      const decisive = e.op === 'and' ? 'empty' : 'full';
      const a = narrow(e.a, ranges);
      if (a === decisive) return a;
      const b = narrow(e.b, ranges);
      if (b === decisive || typeof a === 'string') return b;
      return typeof b === 'string' ? a : e;
    }
  }
  const a = rangeOf(e.a, ranges);
  const b = rangeOf(e.b, ranges);
  if (a === UNKNOWN || b === UNKNOWN) return e;
  if (e.op === 'eq') {
    if (a.high < b.low || b.high < a.low) return 'empty';
    return a.low === a.high && b.low === b.high && a.low === b.low ? 'full' : e;
  }
  const [small, large] = e.op === 'le' ? [a, b] : [b, a];
  return small.high <= large.low ? 'full' : small.low > large.high ? 'empty' : e;
}
