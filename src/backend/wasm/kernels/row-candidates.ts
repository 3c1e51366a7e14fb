import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Blocks, scoreRow } from './attention-tiles.ts';
import { type KernelContext, plus, reduce, times } from './kernel.ts';

/** A list of candidates: values from `from` to `end`, and as far behind each as `keys` says the key that it is of. */
export interface Candidates {
  readonly from: Variable<'i32'>;
  readonly end: Variable<'i32'>;
  readonly keys: I32;
}

/** Least and largest finite float, as whole numbers of the same order. */
const LOWEST = 0xff7fffff ^ 0x7fffffff;
const HIGHEST = 0x7f800000;
export const LOWEST_FLOAT = -3.4028234663852886e38;

/** Floats as whole numbers of the same order, and back. */
export const ordered = (x: V128): V128 =>
  v128.xor(x, v128.and(i32x4.shr_s(x, i32.const(31)), v128.i32x4(0x7fffffff)));

/** The lanes of `x` that `mask` picks are added to the list at `end`. */
export function append(
  f: FunctionBuilder,
  { end, keys }: Candidates,
  x: V128,
  mask: Variable<'v128'>,
  keyOf: (lane: number) => I32,
): void {
  for (let lane = 0; lane < 4; lane++) {
    f.emit(v128.store32_lane(end, x, lane));
    f.emit(i32.store(i32.add(end, keys), keyOf(lane)));
    f.increment(end, i32.and(i32x4.lane(mask, lane), i32.const(4)));
  }
}

/** Walks the vectors of a list, which `close` fills up with −∞. */
export const eachOf =
  ({ from, end }: Pick<Candidates, 'from' | 'end'>) =>
  (f: FunctionBuilder, cursor: Variable<'i32'>, body: () => void): void =>
    f.for(cursor, from, end, 16, body);

export const close = (f: FunctionBuilder, { end }: Pick<Candidates, 'end'>): void =>
  f.emit(v128.store(end, v128.f32x4(-Infinity)));

/** Walks one row of scores, which lies in pieces of one block each, four vectors at a time. */
export const eachPiece = (
  f: FunctionBuilder,
  blocks: Blocks,
  row: { s: Variable<'i32'>; end: Variable<'i32'> },
  piece: Variable<'i32'>,
  body: () => void,
): void => f.for(piece, row.s, row.end, blocks.query * scoreRow(blocks), body);

/**
 * Adds a function that finds, of the floats from `from` to `end` (closed by −∞), a threshold that at least `limit` reach
 * and, where there is such a one, at most `enough`; otherwise the largest that `limit` reach. Where there are fewer it is
 * the least of them. By bisection on the order of floats; the whole number goes to `out`.
 */
export function thresholdFunction({ module }: KernelContext): number {
  const parameters = { from: 'i32', end: 'i32', limit: 'i32', enough: 'i32', out: 'i32' } as const;
  return module.func('row_threshold', parameters, (f, p) => {
    const [low, high, middle, reached, cursor] = f.localArray('i32', 5);
    const [least, most, count, mask] = f.localArray('v128', 4);
    const each = (body: () => void) => eachOf(p)(f, cursor, body);
    f.set(least, v128.i32x4(HIGHEST));
    f.set(most, v128.i32x4(LOWEST));
    each(() => {
      f.set(mask, ordered(v128.load(cursor)));
      f.set(most, i32x4.max_s(most, mask));
      f.set(least, i32x4.min_s(least, mask));
    });
    f.set(low, i32.max_s(i32x4.lane(reduce(f, [least], i32x4.min_s), 0), i32.const(LOWEST)));
    f.set(high, plus(i32.min_s(i32x4.lane(reduce(f, [most], i32x4.max_s), 0), i32.const(HIGHEST)), 1));
    f.while(
      // Unsigned: the distance may pass 2³¹.
      () => i32.gt_u(i32.sub(high, low), i32.const(1)),
      () => {
        const half = (x: I32): I32 => i32.shr_s(x, i32.const(1));
        f.set(middle, i32.add(i32.add(half(low), half(high)), i32.and(i32.and(low, high), i32.const(1))));
        f.set(count, v128.zero);
        f.set(mask, i32x4.splat(middle));
        each(() => f.set(count, i32x4.add(count, i32x4.lt_s(ordered(v128.load(cursor)), mask))));
        // Lanes that are less, taken off those that were looked at, the closing ones among them.
        f.set(reached, i32x4.lane(reduce(f, [count], i32x4.add), 0));
        f.set(reached, i32.add(reached, i32.shr_u(i32.sub(cursor, p.from), i32.const(2))));
        f.if(
          i32.ge_s(reached, p.limit),
          () => {
            f.set(low, middle);
            f.if(i32.le_s(reached, p.enough), () => f.set(high, low));
          },
          () => f.set(high, middle),
        );
      },
    );
    f.emit(i32.store(p.out, low));
  });
}

/**
 * The largest score of a row. Where the row has at least twice `groups` pieces, its scores fall into that many times as
 * many groups as a piece has lanes, and the largest of each is put into a list; otherwise the list is empty. What the few
 * largest scores say is nearly all said by the largest of groups, and they are soon looked through.
 * @param maxima where the list begins: room for half of the row
 */
export function groupMaxima(
  f: FunctionBuilder,
  blocks: Blocks,
  row: { s: Variable<'i32'>; end: Variable<'i32'> },
  groups: I32,
  maxima: Variable<'i32'>,
  largest: Variable<'v128'>,
): Pick<Candidates, 'from' | 'end'> {
  const [ROW, PIECE] = [scoreRow(blocks), blocks.query * scoreRow(blocks)];
  const [piece, turn, end] = f.localArray('i32', 3);
  const walk = (body: (v: number) => void, after = () => {}) =>
    eachPiece(f, blocks, row, piece, () => {
      for (let v = 0; v < ROW; v += 16) body(v);
      after();
    });
  f.set(end, groups);
  f.if(
    i32.le_u(times(end, 2), i32.div_u(i32.sub(row.end, row.s), i32.const(PIECE))),
    () => {
      f.set(end, i32.add(maxima, times(end, ROW)));
      f.for(turn, maxima, end, 16, () => f.emit(v128.store(turn, v128.f32x4(-Infinity))));
      f.set(turn, maxima);
      walk(
        (v) => f.emit(v128.store(turn, f32x4.pmax(v128.load(turn, v), v128.load(piece, v)), v)),
        () => {
          f.increment(turn, ROW);
          f.set(turn, i32.select(turn, maxima, i32.lt_u(turn, end)));
        },
      );
      f.for(turn, maxima, end, 16, () => f.set(largest, f32x4.pmax(largest, v128.load(turn))));
      close(f, { end });
    },
    () => {
      f.set(end, maxima);
      walk((v) => f.set(largest, f32x4.pmax(largest, v128.load(piece, v))));
    },
  );
  f.set(largest, reduce(f, [largest], f32x4.pmax));
  return { from: maxima, end };
}

/** Gathers the scores of a row that `picks` chooses; `entries` says which keys each piece holds. */
export function gather(
  f: FunctionBuilder,
  blocks: Blocks,
  row: { s: Variable<'i32'>; end: Variable<'i32'> },
  entries: Variable<'i32'>,
  list: Candidates,
  picks: (x: V128) => V128,
): void {
  const [piece, cursor, key] = f.localArray('i32', 3);
  const masks = f.localArray('v128', 4);
  f.set(list.end, list.from);
  eachPiece(f, blocks, row, piece, () => {
    f.set(key, times(i32.load(entries), blocks.key));
    f.increment(entries, 8);
    f.for(cursor, piece, plus(piece, scoreRow(blocks)), 64, () => {
      masks.forEach((mask, v) => {
        f.set(mask, picks(v128.load(cursor, 16 * v)));
      });
      f.if(v128.any_true(masks.reduce<V128>((a, b) => v128.or(a, b), v128.zero)), () =>
        masks.forEach((mask, v) => {
          f.if(v128.any_true(mask), () =>
            append(f, list, v128.load(cursor, 16 * v), mask, (lane) => plus(key, 4 * v + lane)),
          );
        }),
      );
      f.increment(key, 16);
    });
  });
}
