import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import {
  KEY_BLOCK,
  KEYS,
  maskRows,
  packKeys,
  QUERY_BLOCK,
  SCORE_ROW,
  scoreTile,
  softmaxRow,
  valueTile,
} from './attention-tiles.ts';
import { kernel, plus, times } from './kernel.ts';

export { KEY_BLOCK, QUERY_BLOCK };

const TILE_ROWS = 4;
/** Below every score: the running maximum before the first key. */
const NO_KEY = -1e30;

/** Bytes of scratch that one thread needs: scores, three row statistics, the output block, the packed keys. */
export const attentionScratch = (N: number, headPitch: number): number =>
  QUERY_BLOCK * (SCORE_ROW + 12 + headPitch * 4) + ((N + KEYS - 1) & -KEYS) * headPitch * 4;

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
