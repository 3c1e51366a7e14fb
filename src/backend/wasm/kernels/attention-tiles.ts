import { f32x4, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { eachVector, type KernelContext, multiplyAdd, plus, reduce, splat, times } from './kernel.ts';
import { exp2 } from './math.ts';

/** Queries and keys of one block: multiples of 4 and of 32. */
export interface Blocks {
  readonly query: number;
  readonly key: number;
}
/** Keys of one packed panel. */
export const KEYS = 8;
/** Bytes of one row of scores. */
export const scoreRow = ({ key }: Blocks): number => key * 4;

/** `rows` × 8 scores: queries against one panel of packed keys. */
export function scoreTile(
  { module, features }: KernelContext,
  blocks: Blocks,
  pitch: number,
  rows: number,
): number {
  const madd = multiplyAdd(features);
  const SCORE_ROW = scoreRow(blocks);
  return module.func(`attention_${pitch}_scores_${rows}`, { q: 'i32', keys: 'i32', s: 'i32' }, (f, p) => {
    const acc = f.localArray('v128', rows * 2);
    const key = f.localArray('v128', 2);
    const query = f.local('v128');
    const end = f.local('i32', plus(p.q, pitch * 4));
    for (const x of acc) f.set(x, v128.zero);
    f.doWhile(
      () => {
        for (let j = 0; j < 2; j++) f.set(key[j], v128.load(p.keys, 16 * j));
        for (let i = 0; i < rows; i++) {
          f.set(query, v128.load32_splat(p.q, i * pitch * 4));
          for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(query, key[j], acc[2 * i + j]));
        }
        f.increment(p.keys, 32);
        f.increment(p.q, 4);
      },
      () => i32.lt_u(p.q, end),
    );
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < 2; j++) f.emit(v128.store(p.s, acc[2 * i + j], i * SCORE_ROW + 16 * j));
  });
}

/** `rows` × 8 outputs: `o · alpha + probabilities · values`, over `keys` bytes of a row of probabilities. */
export function valueTile(
  { module, features }: KernelContext,
  blocks: Blocks,
  pitch: number,
  rows: number,
): number {
  const madd = multiplyAdd(features);
  const SCORE_ROW = scoreRow(blocks);
  return module.func(
    `attention_${pitch}_values_${rows}`,
    { s: 'i32', v: 'i32', o: 'i32', alpha: 'i32', keys: 'i32' },
    (f, p) => {
      const acc = f.localArray('v128', rows * 2);
      const value = f.localArray('v128', 2);
      const weight = f.local('v128');
      const end = f.local('i32', i32.add(p.s, p.keys));
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < 2; j++)
          f.set(
            acc[2 * i + j],
            f32x4.mul(v128.load(p.o, i * pitch * 4 + 16 * j), v128.load32_splat(p.alpha, 4 * i)),
          );
      f.doWhile(
        () => {
          for (let j = 0; j < 2; j++) f.set(value[j], v128.load(p.v, 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(weight, v128.load32_splat(p.s, i * SCORE_ROW));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(weight, value[j], acc[2 * i + j]));
          }
          f.increment(p.v, pitch * 4);
          f.increment(p.s, 4);
        },
        () => i32.lt_u(p.s, end),
      );
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < 2; j++) f.emit(v128.store(p.o, acc[2 * i + j], i * pitch * 4 + 16 * j));
    },
  );
}

/** Online softmax of one row of scores (Milakov and Gimelshein 2018): new maximum, alpha, sum; scores become weights. */
export function softmaxRow({ module, features }: KernelContext, blocks: Blocks, whole: boolean): number {
  const madd = multiplyAdd(features);
  return module.func(
    `attention_softmax_${whole ? 'whole' : 'ragged'}`,
    { s: 'i32', stats: 'i32', scale: 'f32', keys: 'i32' },
    (f, p) => {
      const [MAXIMUM, SUM, ALPHA] = [0, blocks.query * 4, blocks.query * 8];
      const scale = f.local('v128', splat(p.scale));
      const largest = f.localArray('v128', 4, v128.f32x4(-Infinity));
      const cursor = f.local('i32');
      const row = (
        body: (x: V128, store: (x: V128) => void, keep: (x: V128) => V128, slot: number) => void,
      ) => {
        if (whole)
          for (let v = 0; v < blocks.key / 4; v++)
            body(
              v128.load(p.s, 16 * v),
              (x) => f.emit(v128.store(p.s, x, 16 * v)),
              (x) => x,
              v & 3,
            );
        else {
          f.set(cursor, p.s);
          eachVector(f, p.keys, [cursor], 2, (lanes) =>
            body(
              lanes.load(cursor),
              (x) => lanes.store(cursor, x),
              (x) => lanes.keepOr(x, v128.f32x4(-Infinity)),
              lanes.slot,
            ),
          );
        }
      };
      row((x, _store, keep, slot) => f.set(largest[slot], f32x4.pmax(largest[slot], keep(x))));
      const before = f.local('v128', v128.load32_splat(p.stats, MAXIMUM));
      const maximum = reduce(f, largest, f32x4.pmax);
      f.set(maximum, f32x4.pmax(before, f32x4.mul(maximum, scale)));
      f.emit(v128.store32_lane(p.stats, maximum, 0, MAXIMUM));
      const alpha = f.local('v128', exp2(f, features, f32x4.sub(before, maximum)));
      f.emit(v128.store32_lane(p.stats, alpha, 0, ALPHA));
      const negative = f.local('v128', f32x4.sub(v128.zero, maximum));
      const sums = f.localArray('v128', 4, v128.zero);
      const weight = f.local('v128');
      row((x, store, keep, slot) => {
        f.set(weight, exp2(f, features, keep(madd(x, scale, negative))));
        store(weight);
        f.set(sums[slot], f32x4.add(sums[slot], weight));
      });
      const sum = reduce(f, sums, f32x4.add);
      f.emit(v128.store32_lane(p.stats, madd(v128.load32_splat(p.stats, SUM), alpha, sum), 0, SUM));
    },
  );
}

/** Scores whose bit is 0 become −∞. */
export function maskRows({ module }: KernelContext, blocks: Blocks): number {
  return module.func('attention_mask', { s: 'i32', tile: 'i32', rows: 'i32' }, (f, p) => {
    const word = f.local('v128');
    f.while(
      () => p.rows,
      () => {
        for (let v = 0; v < blocks.key / 4; v++) {
          if (v % 8 === 0) f.set(word, v128.load32_splat(p.tile, v >> 1));
          const bit = (v % 8) * 4;
          const lanes = v128.i32x4(1 << bit, 2 << bit, 4 << bit, 8 << bit);
          f.emit(
            v128.store(
              p.s,
              v128.bitselect(
                v128.f32x4(-Infinity),
                v128.load(p.s, 16 * v),
                i32x4.eq(v128.and(word, lanes), v128.zero),
              ),
              16 * v,
            ),
          );
        }
        f.increment(p.s, scoreRow(blocks));
        f.increment(p.tile, blocks.key / 8);
        f.increment(p.rows, -1);
      },
    );
  });
}

/** Keys `[n, pitch]` → panels `[n/8][pitch][8]`; rows past `n` are zeros. */
export function packKeys({ module }: KernelContext, pitch: number): number {
  return module.func(`attention_${pitch}_pack`, { keys: 'i32', out: 'i32', n: 'i32' }, (f, p) => {
    const i = f.local('i32');
    const d = f.local('i32');
    const target = f.local('i32');
    const padded = i32.and(plus(p.n, KEYS - 1), i32.const(-KEYS));
    f.for(i, i32.const(0), padded, 1, () => {
      f.set(
        target,
        i32.add(
          p.out,
          i32.add(
            i32.mul(i32.shr_u(i, i32.const(3)), i32.const(pitch * 32)),
            times(i32.and(i, i32.const(7)), 4),
          ),
        ),
      );
      f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
        const x = f.local('v128', v128.zero);
        f.set(x, v128.zero);
        f.if(i32.lt_u(i, p.n), () => f.set(x, v128.load(i32.add(p.keys, d))));
        for (let lane = 0; lane < 4; lane++) f.emit(v128.store32_lane(target, x, lane, 32 * lane));
        f.increment(target, 128);
      });
      f.increment(p.keys, pitch * 4);
    });
  });
}
