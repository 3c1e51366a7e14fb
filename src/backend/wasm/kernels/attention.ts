import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i32, v128 } from '../instructions.ts';
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

/** A block of pairs: its first query and how many, its first key and how many. */
export interface PairBlock {
  readonly head: I32;
  readonly row: I32;
  readonly rows: I32;
  readonly first: I32;
  readonly keys: I32;
  readonly scratch: I32;
}

/** Some rows of a block's scores. */
export interface ScoreRows extends PairBlock {
  /** First score; rows are `scoreRow(blocks)` bytes apart. */
  readonly scores: I32;
  /** First of the block's rows, and how many. */
  readonly from: I32;
  readonly count: number;
}

type At = Readonly<Record<string, Variable<'i32' | 'f32'>>>;

/** Changes scores before the mask and the softmax. */
export interface ScoreHook {
  /** What it reads of the descriptor, behind the kernel's own fields. */
  readonly fields: Fields;
  /** Bytes of scratch, a multiple of 16. */
  readonly scratchBytes: number;
  /** Adds its functions to the module; gives the code for what a block shares, and for some rows of its scores. */
  build(context: KernelContext): {
    readonly block: (f: FunctionBuilder, at: At, block: PairBlock) => void;
    readonly rows: (f: FunctionBuilder, at: At, rows: ScoreRows) => void;
  };
}

/** What one attention kernel is generated for. */
export interface AttentionVariant {
  readonly keySize: number;
  readonly headSize: number;
  readonly blocks: Blocks;
  readonly hook?: ScoreHook;
}

/** Most rows of a register tile. */
export const MOST_ROWS = 8;
/** Below every score: the running maximum before the first key. */
export const NO_KEY = -1e30;

/** Bytes of scratch that one thread needs: scores, three row statistics, the output block, the packed keys. */
export const attentionScratch = (S: number, { keySize, headSize, blocks }: AttentionVariant): number =>
  MOST_ROWS * scoreRow(blocks) +
  blocks.query * (12 + pad(headSize) * 4) +
  ((S + KEYS - 1) & -KEYS) * pad(keySize) * 4;

export const pad = (size: number): number => (size + 7) & ~7;

/** Where row `index` stands, of rows of `bytes` from `base` on. */
export const rowAt = (base: I32, index: I32, bytes: number): I32 => i32.add(base, times(index, bytes));

/** One function for each number of rows up to `most`; there is none for 0. */
export const tilesOf = (most: number, tile: (rows: number) => number): number[] =>
  Array.from({ length: most + 1 }, (_, r) => (r ? tile(r) : 0));

/** Calls `body` for each tile of at most `most` rows, with how many it has. */
export const byTiles = (
  f: FunctionBuilder,
  rows: I32,
  index: Variable<'i32'>,
  body: (rows: number) => void,
  most: number,
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

/**
 * First and last key, by `step` keys, that the bits of `rows` rows from `at` on keep; where they keep none, the first is
 * not before the last.
 */
export function keptRange(
  f: FunctionBuilder,
  at: I32,
  rows: number,
  keyBlock: number,
  step: number,
  low: Variable<'i32'>,
  high: Variable<'i32'>,
): void {
  const words = Array.from({ length: keyBlock / 32 }, (_, w) => {
    let any = i32.load(at, 4 * w);
    for (let r = 1; r < rows; r++) any = i32.or(any, i32.load(at, (r * keyBlock) / 8 + 4 * w));
    return f.local('i32', any);
  });
  f.set(low, i32.const(keyBlock));
  f.set(high, i32.const(0));
  words.forEach((word, w) => {
    f.if(word, () => {
      f.set(low, i32.min_s(low, plus(i32.ctz(word), 32 * w)));
      f.set(high, i32.sub(i32.const(32 * w + 32), i32.clz(word)));
    });
  });
  f.set(low, i32.and(low, i32.const(-step)));
  f.set(high, i32.and(plus(high, step - 1), i32.const(-step)));
}

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
      const most = context.tiles.float32;
      const scores = tilesOf(most, (r) => scoreTile(context, blocks, keyPitch, r));
      const values = tilesOf(most, (r) => valueTile(context, blocks, pitch, r));
      const whole = softmaxRow(context, blocks, true);
      const ragged = softmaxRow(context, blocks, false);
      const mask = maskRows(context, blocks);
      const pack = packKeys(context, keyPitch);
      const modify = hook?.build(context);
      const place = headPlace(f);
      const { b, h, length, q, k, v } = place;
      const [row, rows, first, keys, i, j, entry, last] = f.localArray('i32', 8);
      const [list, x, y, low, high, bits, bitsAt] = f.localArray('i32', 7);
      const S = context.scratch(f);
      const stats = f.local('i32', plus(S, MOST_ROWS * SCORE_ROW));
      const O = f.local('i32', plus(stats, QUERY_BLOCK * 12));
      const hooked = f.local('i32', plus(O, QUERY_BLOCK * pitch * 4));
      const packed = f.local('i32', plus(hooked, hook?.scratchBytes ?? 0));
      const [sum, none] = f.localArray('v128', 2);

      const pairs: PairBlock = { head: h, row, rows, first, keys, scratch: hooked };

      /** One tile of queries against one block of keys, from the first to the last that any of them keeps. */
      const tileOfPairs = (r: number) => {
        f.set(low, i32.const(0));
        f.set(high, keys);
        f.if(i32.ge_s(bits, i32.const(0)), () => {
          f.set(x, rowAt(bitsAt, i, KEY_BLOCK / 8));
          keptRange(f, x, r, KEY_BLOCK, KEYS, low, high);
          f.set(high, i32.min_s(high, keys));
        });
        f.if(i32.lt_s(low, high), () => {
          f.for(j, low, high, KEYS, () =>
            f.call(
              scores[r],
              rowAt(q, i32.add(row, i), keyPitch * 4),
              rowAt(packed, i32.add(first, j), keyPitch * 4),
              rowAt(S, j, 4),
            ),
          );
          modify?.rows(f, at, { ...pairs, scores: S, from: i, count: r });
          f.if(i32.ge_s(bits, i32.const(0)), () => f.call(mask, S, x, i32.const(r)));
          f.set(x, rowAt(S, low, 4));
          f.set(y, rowAt(stats, i, 4));
          f.set(high, i32.sub(high, low));
          const soften = (softmax: number) => () => {
            for (let t = 0; t < r; t++)
              f.call(softmax, plus(x, t * SCORE_ROW), plus(y, 4 * t), at.scale, high);
          };
          f.if(i32.eq(high, i32.const(KEY_BLOCK)), soften(whole), soften(ragged));
          f.for(j, i32.const(0), i32.const(pitch * 4), 32, () =>
            f.call(
              values[r],
              x,
              i32.add(rowAt(v, i32.add(first, low), pitch * 4), j),
              i32.add(rowAt(O, i, pitch * 4), j),
              plus(y, QUERY_BLOCK * 8),
              times(high, 4),
            ),
          );
        });
      };
      const blockOfKeys = () => {
        f.set(bits, i32.load(entry, 4));
        f.set(bitsAt, rowAt(at.tiles, bits, (QUERY_BLOCK * KEY_BLOCK) / 8));
        modify?.block(f, at, pairs);
        byTiles(f, rows, i, tileOfPairs, most);
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
            f.set(x, rowAt(list, i32.div_u(row, i32.const(QUERY_BLOCK)), 4));
            f.set(last, rowAt(at.entries, i32.load(i32.add(at.ends, x)), 8));
            f.for(entry, rowAt(at.entries, i32.load(i32.add(at.starts, x)), 8), last, 8, () => {
              f.set(first, times(i32.load(entry), KEY_BLOCK));
              f.set(keys, i32.min_s(i32.const(KEY_BLOCK), i32.sub(length, first)));
              f.if(i32.gt_s(keys, i32.const(0)), blockOfKeys);
            });
            f.set(y, rowAt(at.o, i32.add(i32.mul(i32.add(i32.mul(b, at.N), row), at.H), h), headSize * 4));
            f.for(i, i32.const(0), rows, 1, () => {
              // A sum this small has seen no key: the row is 0.
              f.set(x, rowAt(stats, i, 4));
              f.set(sum, v128.load32_splat(x, QUERY_BLOCK * 4));
              f.set(none, f32x4.lt(sum, v128.f32x4(1e-30)));
              f.if(at.statistics, () => {
                const largest = f32x4.mul(v128.load32_splat(x), v128.f32x4(Math.LN2));
                const index = i32.add(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), i32.add(row, i));
                f.set(j, rowAt(at.statistics, index, 8));
                f.emit(v128.store32_lane(j, v128.bitselect(v128.f32x4(-Infinity), largest, none), 0));
                f.emit(v128.store32_lane(j, v128.andnot(sum, none), 0, 4));
              });
              f.set(sum, v128.andnot(f32x4.div(v128.f32x4(1), sum), none));
              f.set(x, rowAt(O, i, pitch * 4));
              for (let d = 0; d < headSize; d += 4) {
                const mean = f32x4.mul(v128.load(x, 4 * d), sum);
                if (d + 4 <= headSize) f.emit(v128.store(y, mean, 4 * d));
                else
                  for (let lane = 0; lane < headSize - d; lane++)
                    f.emit(v128.store32_lane(y, mean, lane, 4 * (d + lane)));
              }
              f.set(y, rowAt(y, at.H, headSize * 4));
            });
          });
        },
        at.group,
      );
    },
  });
}
