import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import { byTiles, PAIR_FIELDS, pad, rowAt, tilesOf } from './attention.ts';
import { type Blocks, KEYS, maskRows, packKeys, scoreRow, scoreTile } from './attention-tiles.ts';
import { eachHead, type HeadPlace, headPlace } from './heads.ts';
import { type KernelContext, kernel, multiplyAdd, plus, times } from './kernel.ts';
import { type NormalizerKind, normalizeRow, ROW_RESULT, rowResultBytes } from './row-normalizers.ts';

const TILE_ROWS = 4;

export interface RowAttentionVariant {
  readonly keySize: number;
  readonly headSize: number;
  readonly blocks: Blocks;
  readonly normalizer: NormalizerKind;
}

/** Bytes of scratch of one thread: the scores of a tile of rows over every key, a row's result, and the packed keys. */
export const rowAttentionScratch = (
  S: number,
  { keySize, blocks }: Omit<RowAttentionVariant, 'normalizer'>,
): number =>
  Math.ceil(S / blocks.key) * blocks.query * scoreRow(blocks) +
  rowResultBytes(S, blocks) +
  ((S + KEYS - 1) & -KEYS) * pad(keySize) * 4;

/** What a kernel over normalised rows reads, beside its own fields. */
export const ROW_FIELDS = {
  ...PAIR_FIELDS,
  /** Keys that a row may keep, for `topK`. */
  limit: 'i32',
} as const;

type At = { [K in keyof typeof ROW_FIELDS]: Variable<(typeof ROW_FIELDS)[K]> };

/** One row whose weights have been found. */
export interface NormalizedRow {
  readonly place: HeadPlace;
  /** Which row of queries it is. */
  readonly n: I32;
  /** `ROW_RESULT`, and bytes from a weight to its key. */
  readonly result: Variable<'i32'>;
  readonly toKeys: Variable<'i32'>;
  /** Behind the scratch of `rowAttentionScratch`. */
  readonly behind: Variable<'i32'>;
}

/**
 * Rows of attention in two passes over tiles of a few rows: all scores of the blocks that the mask keeps, one block of
 * `query × key` scores after another; then for each row the keys that have a weight, and what `visit` does with them.
 * A unit of work is one head of one sequence.
 */
export function eachNormalizedRow(
  context: KernelContext,
  f: FunctionBuilder,
  at: At,
  [begin, end]: readonly [I32, I32],
  { keySize, blocks, normalizer }: RowAttentionVariant,
  visit: (row: NormalizedRow) => void,
): void {
  const keyPitch = pad(keySize);
  const ROW = scoreRow(blocks);
  const BLOCK = blocks.query * ROW;
  const most = Math.min(TILE_ROWS, context.tiles.float32);
  const scores = tilesOf(most, (r) => scoreTile(context, blocks, keyPitch, r));
  const mask = maskRows(context, blocks);
  const pack = packKeys(context, keyPitch);
  const normalize = normalizeRow(context, blocks, normalizer);
  const place = headPlace(f);
  const { b, h, q, k, length } = place;
  const [list, row, rows, entry, last, begins, r] = f.localArray('i32', 7);
  const [first, keys, i, j, x, used, packed, behind] = f.localArray('i32', 8);
  const buffer = f.local('i32', context.scratch(f));
  const [perBlock, fixed] = [
    rowResultBytes(blocks.key, blocks) - rowResultBytes(0, blocks),
    rowResultBytes(0, blocks),
  ];
  const keyBlocks = f.local('i32', i32.div_u(plus(at.S, blocks.key - 1), i32.const(blocks.key)));
  const result = f.local('i32', rowAt(buffer, keyBlocks, BLOCK));
  f.set(packed, plus(rowAt(result, keyBlocks, perBlock), fixed));
  f.set(behind, rowAt(packed, i32.and(plus(at.S, KEYS - 1), i32.const(-KEYS)), keyPitch * 4));
  /** Bytes from a weight of the result to its key. */
  const toKeys = f.local('i32', plus(times(keyBlocks, ROW), 64));

  /** Scores of one block of keys for all rows of the tile, −∞ where the mask or the length keeps none. */
  const scoreBlock = () => {
    f.for(j, i32.const(0), keys, KEYS, () => {
      f.set(x, rowAt(packed, i32.add(first, j), keyPitch * 4));
      byTiles(
        f,
        rows,
        i,
        (count) =>
          f.call(scores[count], rowAt(q, i32.add(row, i), keyPitch * 4), x, rowAt(rowAt(used, i, ROW), j, 4)),
        most,
      );
    });
    f.if(i32.lt_s(keys, i32.const(blocks.key)), () =>
      f.for(i, i32.const(0), rows, 1, () =>
        f.for(j, keys, i32.const(blocks.key), 1, () =>
          f.emit(
            f32.store(i32.add(used, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))), f32.const(-Infinity)),
          ),
        ),
      ),
    );
    f.set(x, i32.load(entry, 4));
    f.if(i32.ge_s(x, i32.const(0)), () =>
      f.call(mask, used, i32.add(at.tiles, i32.mul(x, i32.const((blocks.query * blocks.key) / 8))), rows),
    );
    f.increment(used, BLOCK);
  };

  const eachEntry = (body: () => void) => {
    f.set(x, i32.add(list, times(i32.div_u(row, i32.const(blocks.query)), 4)));
    f.set(last, i32.add(at.entries, times(i32.load(i32.add(at.ends, x)), 8)));
    f.set(begins, rowAt(at.entries, i32.load(i32.add(at.starts, x)), 8));
    f.for(entry, begins, last, 8, () => {
      f.set(first, i32.mul(i32.load(entry), i32.const(blocks.key)));
      f.set(keys, i32.min_s(i32.const(blocks.key), i32.sub(length, first)));
      f.if(i32.gt_s(keys, i32.const(0)), body);
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
      f.for(row, i32.const(0), at.N, blocks.query, () => {
        f.set(rows, i32.min_s(i32.const(blocks.query), i32.sub(at.N, row)));
        f.set(used, buffer);
        eachEntry(scoreBlock);
        f.for(r, i32.const(0), rows, 1, () => {
          const ofRow = (base: I32) => rowAt(base, r, ROW);
          f.call(normalize, ofRow(buffer), ofRow(used), begins, at.scale, at.limit, toKeys, result);
          visit({ place, n: i32.add(row, r), result, toKeys, behind });
        });
      });
    },
    at.group,
  );
}

/** Attention whose rows are normalised whole: value rows of weight 0 are never read. */
export function rowAttentionKernel(variant: RowAttentionVariant) {
  const { keySize, headSize } = variant;
  const pitch = pad(headSize);
  return kernel({
    name: `row_attention_${keySize}_${headSize}`,
    fields: { ...ROW_FIELDS, support: 'i32' },
    build(context, f, at, begin, end) {
      const madd = multiplyAdd(context.features);
      const sums = f.localArray('v128', pitch / 4);
      const weight = f.local('v128');
      const [x, y, last, o] = f.localArray('i32', 4);
      eachNormalizedRow(context, f, at, [begin, end], variant, ({ place, n, result, toKeys }) => {
        const { b, h, v } = place;
        const index = i32.add(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), n);
        const count = f32.convert_i32_s(i32.load(result, ROW_RESULT.count));
        f.emit(f32.store(rowAt(at.support, index, 4), count));
        for (const sum of sums) f.set(sum, v128.zero);
        f.set(x, plus(result, ROW_RESULT.weights));
        f.set(last, rowAt(x, i32.load(result, ROW_RESULT.count), 4));
        f.for(x, x, last, 4, () => {
          f.set(weight, v128.load32_splat(x));
          f.set(y, rowAt(v, i32.load(i32.add(x, toKeys)), pitch * 4));
          sums.forEach((sum, c) => {
            f.set(sum, madd(weight, v128.load(y, 16 * c), sum));
          });
        });
        f.set(weight, v128.load32_splat(result, ROW_RESULT.inverse));
        const outRow = i32.add(i32.mul(i32.add(i32.mul(b, at.N), n), at.H), h);
        f.set(o, rowAt(at.o, outRow, headSize * 4));
        for (let d = 0; d < headSize; d += 4) {
          const value = f32x4.mul(sums[d / 4], weight);
          if (d + 4 <= headSize) f.emit(v128.store(o, value, 4 * d));
          else
            for (let lane = 0; lane < headSize - d; lane++)
              f.emit(v128.store32_lane(o, value, lane, 4 * (d + lane)));
        }
      });
    },
  });
}
