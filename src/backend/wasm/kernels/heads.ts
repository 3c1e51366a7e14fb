import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32 } from '../instructions.ts';
import { times } from './kernel.ts';

/** What a kernel over the heads of queries, keys and values reads. */
export const HEAD_FIELDS = {
  /** Address of the first head of the first sequence, then the bytes from a head and from a sequence to the next. */
  q: 'i32',
  qHead: 'i32',
  qBatch: 'i32',
  k: 'i32',
  kHead: 'i32',
  kBatch: 'i32',
  v: 'i32',
  vHead: 'i32',
  vBatch: 'i32',
  o: 'i32',
  /** Lengths of the sequences; 0 where every key is there. */
  lengths: 'i32',
  /** Queries and keys of a sequence, and heads. */
  N: 'i32',
  S: 'i32',
  H: 'i32',
} as const;

type HeadFields = { [K in keyof typeof HEAD_FIELDS]: Variable<'i32'> };
/** Where one head of one sequence stands: its rows of queries, keys and values, and how many keys there are. */
export type HeadPlace = Readonly<Record<'b' | 'h' | 'q' | 'k' | 'v' | 'length', Variable<'i32'>>>;

/** Locals for one place. */
export function headPlace(f: FunctionBuilder): HeadPlace {
  const [b, h, q, k, v, length] = f.localArray('i32', 6);
  return { b, h, q, k, v, length };
}

/**
 * Walks units of work that are one head of one sequence each, and sets `place` to each.
 * @param group query heads that share a head of keys and values; by default each has its own
 */
export function eachHead(
  f: FunctionBuilder,
  at: HeadFields,
  begin: I32,
  end: I32,
  { b, h, q, k, v, length }: HeadPlace,
  body: () => void,
  group?: I32,
): void {
  const [unit, shared] = f.localArray('i32', 2);
  const source = (name: 'q' | 'k' | 'v', head: I32) =>
    i32.add(at[name], i32.add(i32.mul(head, at[`${name}Head`]), i32.mul(b, at[`${name}Batch`])));
  f.for(unit, begin, end, 1, () => {
    f.set(b, i32.div_u(unit, at.H));
    f.set(h, i32.rem_u(unit, at.H));
    if (group) f.set(shared, i32.div_u(h, group));
    f.set(q, source('q', h));
    f.set(k, source('k', group ? shared : h));
    f.set(v, source('v', group ? shared : h));
    f.set(length, at.S);
    f.if(at.lengths, () => f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.S)));
    body();
  });
}
