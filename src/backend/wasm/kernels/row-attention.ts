import { f32, f32x4, i32, v128 } from '../instructions.ts';
import { PAIR_FIELDS } from './attention.ts';
import { type Blocks, KEYS, maskRows, packKeys, scoreRow, scoreTile } from './attention-tiles.ts';
import { eachHead, headPlace } from './heads.ts';
import { kernel, multiplyAdd, plus, times } from './kernel.ts';
import { type NormalizerKind, normalizeRow } from './row-normalizers.ts';

const TILE_ROWS = 4;
const pad = (size: number): number => (size + 7) & ~7;

export interface RowAttentionVariant {
  readonly keySize: number;
  readonly headSize: number;
  readonly blocks: Blocks;
  readonly normalizer: NormalizerKind;
}

/** Bytes of scratch of one thread: the scores of a tile of rows over every key, and the packed keys. */
export const rowAttentionScratch = (
  S: number,
  { keySize, blocks }: Omit<RowAttentionVariant, 'normalizer'>,
): number =>
  64 +
  Math.ceil(S / blocks.key) * blocks.query * scoreRow(blocks) +
  ((S + KEYS - 1) & -KEYS) * pad(keySize) * 4;

/**
 * Attention in two passes over tiles of a few rows: all scores of the blocks that the mask keeps, one block of
 * `query × key` scores after another; then the weights of each row; then the value rows whose weight is not 0. A unit
 * of work is one head of one sequence.
 */
export function rowAttentionKernel({ keySize, headSize, blocks, normalizer }: RowAttentionVariant) {
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  const ROW = scoreRow(blocks);
  const BLOCK = blocks.query * ROW;
  return kernel({
    name: `row_attention_${keySize}_${headSize}`,
    fields: {
      ...PAIR_FIELDS,
      support: 'i32',
      /** Keys that a row may keep, for `topK`. */
      limit: 'i32',
    },
    build(context, f, at, begin, end) {
      const madd = multiplyAdd(context.features);
      const scores = Array.from({ length: TILE_ROWS + 1 }, (_, r) =>
        r ? scoreTile(context, blocks, keyPitch, r) : 0,
      );
      const mask = maskRows(context, blocks);
      const pack = packKeys(context, keyPitch);
      const normalize = normalizeRow(context, blocks, normalizer);
      const place = headPlace(f);
      const { b, h, q, k, v, length } = place;
      const locals = f.localArray('i32', 15);
      const [list, row, rows, entry, last] = locals;
      const [first, keys, i, j, x, y, used, S, packed, o] = locals.slice(5);
      const sums = f.localArray('v128', pitch / 4);
      const weight = f.local('v128');
      f.set(S, context.scratch(f));
      f.set(
        packed,
        i32.add(
          plus(S, 64),
          i32.mul(i32.div_u(plus(at.S, blocks.key - 1), i32.const(blocks.key)), i32.const(BLOCK)),
        ),
      );
      const buffer = f.local('i32', plus(S, 64));

      /** Scores of one block of keys for all rows of the tile, −∞ where the mask or the length keeps none. */
      const scoreBlock = () => {
        f.for(j, i32.const(0), keys, KEYS, () => {
          f.set(x, i32.add(packed, i32.mul(i32.add(first, j), i32.const(keyPitch * 4))));
          f.set(i, i32.const(0));
          f.while(
            () => i32.le_s(plus(i, TILE_ROWS), rows),
            () => {
              f.call(
                scores[TILE_ROWS],
                i32.add(q, i32.mul(i32.add(row, i), i32.const(keyPitch * 4))),
                x,
                i32.add(used, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))),
              );
              f.increment(i, TILE_ROWS);
            },
          );
          for (let r = 1; r < TILE_ROWS; r++)
            f.if(i32.eq(i32.sub(rows, i), i32.const(r)), () =>
              f.call(
                scores[r],
                i32.add(q, i32.mul(i32.add(row, i), i32.const(keyPitch * 4))),
                x,
                i32.add(used, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))),
              ),
            );
        });
        f.if(i32.lt_s(keys, i32.const(blocks.key)), () =>
          f.for(i, i32.const(0), rows, 1, () =>
            f.for(j, keys, i32.const(blocks.key), 1, () =>
              f.emit(
                f32.store(
                  i32.add(used, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))),
                  f32.const(-Infinity),
                ),
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

      /** Adds the value rows of one block whose weight is not 0, four weights at a look. */
      const addValues = () => {
        f.for(j, i32.const(0), i32.const(ROW), 16, () => {
          f.set(x, i32.add(used, j));
          f.if(v128.any_true(v128.load(x)), () => {
            f.set(y, i32.add(v, i32.mul(i32.add(first, i32.shr_u(j, i32.const(2))), i32.const(pitch * 4))));
            for (let lane = 0; lane < 4; lane++)
              f.if(i32.load(x, 4 * lane), () => {
                f.set(weight, v128.load32_splat(x, 4 * lane));
                sums.forEach((sum, c) => {
                  f.set(sum, madd(weight, v128.load(y, lane * pitch * 4 + 16 * c), sum));
                });
              });
          });
        });
      };

      const eachEntry = (body: () => void) => {
        f.set(x, i32.add(list, times(i32.div_u(row, i32.const(blocks.query)), 4)));
        f.set(last, i32.add(at.entries, times(i32.load(i32.add(at.ends, x)), 8)));
        f.for(entry, i32.add(at.entries, times(i32.load(i32.add(at.starts, x)), 8)), last, 8, () => {
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
            const filled = f.local('i32', used);
            f.set(filled, used);
            const r = f.local('i32');
            f.for(r, i32.const(0), rows, 1, () => {
              f.call(
                normalize,
                i32.add(buffer, i32.mul(r, i32.const(ROW))),
                i32.add(filled, i32.mul(r, i32.const(ROW))),
                at.scale,
                at.limit,
                S,
              );
              f.emit(
                f32.store(
                  i32.add(
                    at.support,
                    times(i32.add(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), i32.add(row, r)), 4),
                  ),
                  f32.load(S, 4),
                ),
              );
              for (const sum of sums) f.set(sum, v128.zero);
              f.set(used, i32.add(buffer, i32.mul(r, i32.const(ROW))));
              eachEntry(() => {
                addValues();
                f.increment(used, BLOCK);
              });
              // The weights' own sum, inverted; 0 where no key was seen.
              f.set(weight, v128.load32_splat(S));
              f.set(
                o,
                i32.add(
                  at.o,
                  i32.mul(
                    i32.add(i32.mul(i32.add(i32.mul(b, at.N), i32.add(row, r)), at.H), h),
                    i32.const(headSize * 4),
                  ),
                ),
              );
              for (let d = 0; d < headSize; d += 4) {
                const value = f32x4.mul(sums[d / 4], weight);
                if (d + 4 <= headSize) f.emit(v128.store(o, value, 4 * d));
                else
                  for (let lane = 0; lane < headSize - d; lane++)
                    f.emit(v128.store32_lane(o, value, lane, 4 * (d + lane)));
              }
            });
          });
        },
        at.group,
      );
    },
  });
}
