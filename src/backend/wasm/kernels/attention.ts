import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import {
  type Blocks,
  KEYS,
  maskRows,
  packKeys,
  scoreRow,
  scoreTile,
  softmaxRow,
  valueTile,
} from './attention-tiles.ts';
import { eachHead, HEAD_FIELDS, headPlace } from './heads.ts';
import { type Fields, type KernelContext, kernel, plus, times } from './kernel.ts';

/** Where a block of scores stands, and which pairs it holds. */
export interface ScoreBlock {
  /** First score; rows are `scoreRow(blocks)` bytes apart. */
  readonly scores: I32;
  readonly head: I32;
  /** First query, and how many. */
  readonly row: I32;
  readonly rows: I32;
  /** First key, and how many. */
  readonly first: I32;
  readonly keys: I32;
  readonly scratch: I32;
}

/** Changes each block of scores before the mask and the softmax. */
export interface ScoreHook {
  /** What it reads of the descriptor, behind the kernel's own fields. */
  readonly fields: Fields;
  /** Bytes of scratch, a multiple of 16. */
  readonly scratchBytes: number;
  /** Adds its functions to the module; gives the code for one block. */
  build(
    context: KernelContext,
  ): (f: FunctionBuilder, at: Readonly<Record<string, Variable<'i32' | 'f32'>>>, block: ScoreBlock) => void;
}

/** What one attention kernel is generated for. */
export interface AttentionVariant {
  readonly keySize: number;
  readonly headSize: number;
  readonly blocks: Blocks;
  readonly hook?: ScoreHook;
}

const TILE_ROWS = 4;
/** Below every score: the running maximum before the first key. */
export const NO_KEY = -1e30;

/** Bytes of scratch that one thread needs: scores, three row statistics, the output block, the packed keys. */
export const attentionScratch = (S: number, { keySize, headSize, blocks }: AttentionVariant): number =>
  blocks.query * (scoreRow(blocks) + 12 + pad(headSize) * 4) + ((S + KEYS - 1) & -KEYS) * pad(keySize) * 4;

export const pad = (size: number): number => (size + 7) & ~7;

/** Calls `body` for each tile of at most `most` rows, with how many it has. */
export const byTiles = (
  f: FunctionBuilder,
  rows: I32,
  index: Variable<'i32'>,
  body: (rows: number) => void,
  most = TILE_ROWS,
): void => {
  f.set(index, i32.const(0));
  f.while(
    () => i32.le_s(plus(index, most), rows),
    () => {
      body(most);
      f.increment(index, most);
    },
  );
  for (let r = 1; r < most; r++) f.if(i32.eq(i32.sub(rows, index), i32.const(r)), () => body(r));
};

/** What a kernel over the pairs of a BlockMask reads. */
export const PAIR_FIELDS = {
  ...HEAD_FIELDS,
  /** Times log₂ e. */
  scale: 'f32',
  B: 'i32',
  /** Query heads that share a key head. */
  group: 'i32',
  starts: 'i32',
  ends: 'i32',
  entries: 'i32',
  tiles: 'i32',
  /** Bytes between the lists of two heads; 0 where all share one. */
  headLists: 'i32',
  /** Bytes between the lists of two sequences; 0 where all share them. */
  batchLists: 'i32',
} as const;

/**
 * Fused attention over a BlockMask (FlashAttention, Dao et al. 2022, algorithm 1, on a list of blocks): the scores of
 * one block exist at a time. A unit of work is one head of one sequence.
 */
export function attentionKernel(variant: AttentionVariant) {
  const { keySize, headSize, blocks, hook } = variant;
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  const [QUERY_BLOCK, KEY_BLOCK, SCORE_ROW] = [blocks.query, blocks.key, scoreRow(blocks)];
  return kernel({
    name: `attention_${keySize}_${headSize}`,
    fields: {
      ...PAIR_FIELDS,
      /** Largest score and sum of each row, where they are asked for; else 0. */
      statistics: 'i32',
      ...hook?.fields,
    },
    build(context, f, at, begin, end) {
      const scores = Array.from({ length: TILE_ROWS + 1 }, (_, r) =>
        r ? scoreTile(context, blocks, keyPitch, r) : 0,
      );
      const values = Array.from({ length: TILE_ROWS + 1 }, (_, r) =>
        r ? valueTile(context, blocks, pitch, r) : 0,
      );
      const whole = softmaxRow(context, blocks, true);
      const ragged = softmaxRow(context, blocks, false);
      const mask = maskRows(context, blocks);
      const pack = packKeys(context, keyPitch);
      const modify = hook?.build(context);
      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const place = headPlace(f);
      const { b, h, length, q, k, v } = place;
      const { row, rows, i, j, entry, last, first, keys, list, x, y } = locals(
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
      const S = context.scratch(f);
      const stats = f.local('i32', plus(S, QUERY_BLOCK * SCORE_ROW));
      const O = f.local('i32', plus(stats, QUERY_BLOCK * 12));
      const hooked = f.local('i32', plus(O, QUERY_BLOCK * pitch * 4));
      const packed = f.local('i32', plus(hooked, hook?.scratchBytes ?? 0));
      const [inverse, kept] = f.localArray('v128', 2);

      const blockOfKeys = () => {
        // Scores, panel by panel of 8 keys.
        f.for(j, i32.const(0), keys, KEYS, () => {
          f.set(x, i32.add(packed, i32.mul(i32.add(first, j), i32.const(keyPitch * 4))));
          byTiles(f, rows, i, (r) =>
            f.call(
              scores[r],
              i32.add(q, i32.mul(i32.add(row, i), i32.const(keyPitch * 4))),
              x,
              i32.add(S, i32.add(i32.mul(i, i32.const(SCORE_ROW)), times(j, 4))),
            ),
          );
        });
        modify?.(f, at as never, { scores: S, head: h, row, rows, first, keys, scratch: hooked });
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

      eachHead(
        f,
        at,
        begin,
        end,
        place,
        () => {
          f.call(pack, k, packed, length);
          f.set(list, i32.add(i32.mul(h, at.headLists), i32.mul(b, at.batchLists)));
          f.for(row, i32.const(0), at.N, QUERY_BLOCK, () => {
            f.set(rows, i32.min_s(i32.const(QUERY_BLOCK), i32.sub(at.N, row)));
            f.for(i, i32.const(0), i32.const(QUERY_BLOCK * 4), 16, () => {
              f.emit(v128.store(i32.add(stats, i), v128.f32x4(NO_KEY)));
              f.emit(v128.store(i32.add(stats, i), v128.zero, QUERY_BLOCK * 4));
            });
            f.for(i, i32.const(0), i32.const(QUERY_BLOCK * pitch * 4), 16, () =>
              f.emit(v128.store(i32.add(O, i), v128.zero)),
            );
            f.set(x, i32.add(list, times(i32.div_u(row, i32.const(QUERY_BLOCK)), 4)));
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
              f.if(at.statistics, () => {
                f.set(
                  x,
                  i32.add(
                    at.statistics,
                    times(i32.add(i32.add(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), row), i), 8),
                  ),
                );
                f.set(
                  kept,
                  f32x4.ge(
                    v128.load32_splat(i32.add(stats, times(i, 4)), QUERY_BLOCK * 4),
                    v128.f32x4(1e-30),
                  ),
                );
                f.emit(
                  v128.store32_lane(
                    x,
                    v128.bitselect(
                      f32x4.mul(v128.load32_splat(i32.add(stats, times(i, 4))), v128.f32x4(Math.LN2)),
                      v128.f32x4(-Infinity),
                      kept,
                    ),
                    0,
                  ),
                );
                f.emit(
                  v128.store32_lane(
                    x,
                    v128.and(v128.load32_splat(i32.add(stats, times(i, 4)), QUERY_BLOCK * 4), kept),
                    0,
                    4,
                  ),
                );
              });
              f.set(x, i32.add(O, i32.mul(i, i32.const(pitch * 4))));
              for (let d = 0; d + 4 <= headSize; d += 4)
                f.emit(v128.store(y, f32x4.mul(v128.load(x, 4 * d), inverse), 4 * d));
              for (let d = headSize & ~3; d < headSize; d++)
                f.emit(f32.store(y, f32.mul(f32.load(x, 4 * d), f32x4.lane(inverse, 0)), 4 * d));
              f.set(y, i32.add(y, i32.mul(at.H, i32.const(headSize * 4))));
            });
          });
        },
        at.group,
      );
    },
  });
}
