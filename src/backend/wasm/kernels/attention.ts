import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { eachVector, type KernelContext, kernel, multiplyAdd, plus, reduce, splat, times } from './kernel.ts';
import { exp2 } from './math.ts';

export const QUERY_BLOCK = 64;
export const KEY_BLOCK = 64;
const KEYS = 8;
const SCORE_ROW = KEY_BLOCK * 4;
const TILE_ROWS = 4;
/** Below every score: the running maximum before the first key. */
const NO_KEY = -1e30;

/** Bytes of scratch that one thread needs: scores, three row statistics, the output block, the packed keys. */
export const attentionScratch = (N: number, headPitch: number): number =>
  QUERY_BLOCK * (SCORE_ROW + 12 + headPitch * 4) + ((N + KEYS - 1) & -KEYS) * headPitch * 4;

/** `rows` × 8 scores: queries against one panel of packed keys. */
function scoreTile({ module, features }: KernelContext, pitch: number, rows: number): number {
  const madd = multiplyAdd(features);
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
function valueTile({ module, features }: KernelContext, pitch: number, rows: number): number {
  const madd = multiplyAdd(features);
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
function softmaxRow({ module, features }: KernelContext, whole: boolean): number {
  const madd = multiplyAdd(features);
  return module.func(
    `attention_softmax_${whole ? 'whole' : 'ragged'}`,
    { s: 'i32', stats: 'i32', scale: 'f32', keys: 'i32' },
    (f, p) => {
      const [MAXIMUM, SUM, ALPHA] = [0, QUERY_BLOCK * 4, QUERY_BLOCK * 8];
      const scale = f.local('v128', splat(p.scale));
      const largest = f.localArray('v128', 4, v128.f32x4(-Infinity));
      const cursor = f.local('i32');
      const row = (
        body: (x: V128, store: (x: V128) => void, keep: (x: V128) => V128, slot: number) => void,
      ) => {
        if (whole)
          for (let v = 0; v < KEY_BLOCK / 4; v++)
            body(
              v128.load(p.s, 16 * v),
              (x) => f.emit(v128.store(p.s, x, 16 * v)),
              (x) => x,
              v & 3,
            );
        else {
          f.set(cursor, p.s);
          eachVector(f, p.keys, [cursor], 1, (lanes) =>
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
function maskRows({ module }: KernelContext): number {
  return module.func('attention_mask', { s: 'i32', tile: 'i32', rows: 'i32' }, (f, p) => {
    const word = f.local('v128');
    f.while(
      () => p.rows,
      () => {
        for (let v = 0; v < KEY_BLOCK / 4; v++) {
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
        f.increment(p.s, SCORE_ROW);
        f.increment(p.tile, KEY_BLOCK / 8);
        f.increment(p.rows, -1);
      },
    );
  });
}

/** Keys `[n, pitch]` → panels `[n/8][pitch][8]`; rows past `n` are zeros. */
function packKeys({ module }: KernelContext, pitch: number): number {
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

const byTiles = (
  f: FunctionBuilder,
  rows: I32,
  index: Variable<'i32'>,
  body: (rows: number) => void,
): void => {
  f.set(index, i32.const(0));
  f.while(
    () => i32.le_s(plus(index, TILE_ROWS), rows),
    () => {
      body(TILE_ROWS);
      f.increment(index, TILE_ROWS);
    },
  );
  for (let r = 1; r < TILE_ROWS; r++) f.if(i32.eq(i32.sub(rows, index), i32.const(r)), () => body(r));
};

/**
 * Fused attention over a BlockMask (FlashAttention, Dao et al. 2022, algorithm 1, on a list of blocks): no more than
 * 64 × 64 scores exist at a time. A unit of work is one head of one sequence.
 */
export function attentionKernel(headSize: number) {
  const pitch = (headSize + 7) & ~7;
  return kernel({
    name: `attention_${headSize}`,
    fields: {
      qkv: 'i32',
      o: 'i32',
      lengths: 'i32',
      scale: 'f32',
      N: 'i32',
      B: 'i32',
      H: 'i32',
      starts: 'i32',
      ends: 'i32',
      entries: 'i32',
      tiles: 'i32',
      /** Bytes between the lists of two heads; 0 where all share one. */
      headLists: 'i32',
    },
    build(context, f, at, begin, end) {
      const scores = Array.from({ length: TILE_ROWS + 1 }, (_, r) => (r ? scoreTile(context, pitch, r) : 0));
      const values = Array.from({ length: TILE_ROWS + 1 }, (_, r) => (r ? valueTile(context, pitch, r) : 0));
      const whole = softmaxRow(context, true);
      const ragged = softmaxRow(context, false);
      const mask = maskRows(context);
      const pack = packKeys(context, pitch);
      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const { unit, b, h, length, q, k, v, row, rows, i, j, entry, last, first, keys, list, x, y } = locals(
        'unit',
        'b',
        'h',
        'length',
        'q',
        'k',
        'v',
        'row',
        'rows',
        'i',
        'j',
        'entry',
        'last',
        'first',
        'keys',
        'list',
        'x',
        'y',
      );
      const headBytes = f.local('i32', i32.mul(i32.mul(at.B, at.N), i32.const(pitch * 4)));
      const S = context.scratch(f);
      const stats = f.local('i32', plus(S, QUERY_BLOCK * SCORE_ROW));
      const O = f.local('i32', plus(stats, QUERY_BLOCK * 12));
      const packed = f.local('i32', plus(O, QUERY_BLOCK * pitch * 4));
      const inverse = f.local('v128');

      const blockOfKeys = () => {
        // Scores, panel by panel of 8 keys.
        f.for(j, i32.const(0), keys, KEYS, () => {
          f.set(x, i32.add(packed, i32.mul(i32.add(first, j), i32.const(pitch * 4))));
          byTiles(f, rows, i, (r) =>
            f.call(
              scores[r],
              i32.add(q, i32.mul(i32.add(row, i), i32.const(pitch * 4))),
              x,
              i32.add(S, i32.add(i32.mul(i, i32.const(SCORE_ROW)), times(j, 4))),
            ),
          );
        });
        f.set(x, i32.load(entry, 4));
        f.if(i32.ge_s(x, i32.const(0)), () =>
          f.call(mask, S, i32.add(at.tiles, i32.mul(x, i32.const((QUERY_BLOCK * KEY_BLOCK) / 8))), rows),
        );
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(x, i32.add(S, i32.mul(i, i32.const(SCORE_ROW))));
          f.set(y, i32.add(stats, times(i, 4)));
          f.if(
            i32.eq(keys, i32.const(KEY_BLOCK)),
            () => f.call(whole, x, y, at.scale, keys),
            () => f.call(ragged, x, y, at.scale, keys),
          );
        });
        f.for(j, i32.const(0), i32.const(pitch * 4), 32, () => {
          f.set(x, i32.add(i32.add(v, i32.mul(first, i32.const(pitch * 4))), j));
          byTiles(f, rows, i, (r) =>
            f.call(
              values[r],
              i32.add(S, i32.mul(i, i32.const(SCORE_ROW))),
              x,
              i32.add(O, i32.add(i32.mul(i, i32.const(pitch * 4)), j)),
              i32.add(stats, plus(times(i, 4), QUERY_BLOCK * 8)),
              times(keys, 4),
            ),
          );
        });
      };

      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, at.H));
        f.set(h, i32.rem_u(unit, at.H));
        f.set(
          q,
          i32.add(at.qkv, i32.add(i32.mul(h, headBytes), i32.mul(i32.mul(b, at.N), i32.const(pitch * 4)))),
        );
        f.set(k, i32.add(q, i32.mul(at.H, headBytes)));
        f.set(v, i32.add(k, i32.mul(at.H, headBytes)));
        f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.N));
        f.call(pack, k, packed, length);
        f.set(list, i32.mul(h, at.headLists));
        f.for(row, i32.const(0), at.N, QUERY_BLOCK, () => {
          f.set(rows, i32.min_s(i32.const(QUERY_BLOCK), i32.sub(at.N, row)));
          f.for(i, i32.const(0), i32.const(QUERY_BLOCK * 4), 16, () => {
            f.emit(v128.store(i32.add(stats, i), v128.f32x4(NO_KEY)));
            f.emit(v128.store(i32.add(stats, i), v128.zero, QUERY_BLOCK * 4));
          });
          f.for(i, i32.const(0), i32.const(QUERY_BLOCK * pitch * 4), 16, () =>
            f.emit(v128.store(i32.add(O, i), v128.zero)),
          );
          f.set(x, i32.add(list, i32.shr_u(row, i32.const(4))));
          f.set(last, i32.add(at.entries, times(i32.load(i32.add(at.ends, x)), 8)));
          f.for(entry, i32.add(at.entries, times(i32.load(i32.add(at.starts, x)), 8)), last, 8, () => {
            f.set(first, i32.mul(i32.load(entry), i32.const(KEY_BLOCK)));
            f.set(keys, i32.min_s(i32.const(KEY_BLOCK), i32.sub(length, first)));
            f.if(i32.gt_s(keys, i32.const(0)), blockOfKeys);
          });
          f.set(
            y,
            i32.add(
              at.o,
              i32.mul(i32.add(i32.mul(i32.add(i32.mul(b, at.N), row), at.H), h), i32.const(headSize * 4)),
            ),
          );
          f.for(i, i32.const(0), rows, 1, () => {
            // A sum this small has seen no key: the row is 0.
            f.set(inverse, v128.load32_splat(i32.add(stats, times(i, 4)), QUERY_BLOCK * 4));
            f.set(
              inverse,
              v128.andnot(f32x4.div(v128.f32x4(1), inverse), f32x4.lt(inverse, v128.f32x4(1e-30))),
            );
            f.set(x, i32.add(O, i32.mul(i, i32.const(pitch * 4))));
            for (let d = 0; d + 4 <= headSize; d += 4)
              f.emit(v128.store(y, f32x4.mul(v128.load(x, 4 * d), inverse), 4 * d));
            for (let d = headSize & ~3; d < headSize; d++)
              f.emit(f32.store(y, f32.mul(f32.load(x, 4 * d), f32x4.lane(inverse, 0)), 4 * d));
            f.set(y, i32.add(y, i32.mul(at.H, i32.const(headSize * 4))));
          });
        });
      });
    },
  });
}
