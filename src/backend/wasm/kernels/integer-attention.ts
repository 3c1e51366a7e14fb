import { f32, f32x4, type I32, i32, type V128, v128 } from '../instructions.ts';
import { byTiles, keptRange, MOST_ROWS, NO_KEY, PAIR_FIELDS, pad, rowAt, tilesOf } from './attention.ts';
import { type Blocks, KEYS, maskRows, scoreRow, softmaxRow, valueTile } from './attention-tiles.ts';
import { eachHead, headPlace } from './heads.ts';
import {
  codesOf,
  columnStatistics,
  packIntegerKeys,
  packIntegerValues,
  panelBytes,
  quantizeQueries,
} from './integer-attention-pack.ts';
import { type IntegerAttentionVariant, placesOf } from './integer-attention-scratch.ts';
import { integerScoreTile, integerValueTile, softmaxCodes, statistics } from './integer-attention-tiles.ts';
import { type KernelContext, kernel, plus, times } from './kernel.ts';

/** Scores become −∞ from `keys` to the next multiple of 16. */
function closeRows({ module }: KernelContext, blocks: Blocks): number {
  return module.func('integer_attention_close', { s: 'i32', rows: 'i32', keys: 'i32' }, (f, p) => {
    const k = f.local('i32');
    const infinity = f.local('v128', v128.f32x4(-Infinity));
    f.while(
      () => p.rows,
      () => {
        f.for(k, p.keys, i32.and(plus(p.keys, 15), i32.const(-16)), 1, () =>
          f.emit(v128.store32_lane(i32.add(p.s, times(k, 4)), infinity, 0)),
        );
        f.increment(p.s, scoreRow(blocks));
        f.increment(p.rows, -1);
      },
    );
  });
}

/**
 * The functions of one kernel. `soften` turns rows of scores into weights, `gather` adds their values: in float32, or
 * in codes.
 */
function partsOf(context: KernelContext, { precision, keySize, headSize, blocks }: IntegerAttentionVariant) {
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  const whole = precision === 'int8';
  const most = rowsOf(context, precision);
  return {
    most,
    scores: tilesOf(most, (r) => integerScoreTile(context, blocks, keyPitch, r)),
    softmax: [false, true].map((full) => (whole ? softmaxCodes : softmaxRow)(context, blocks, full)),
    mask: maskRows(context, blocks),
    means: columnStatistics(context, keyPitch, 'mean'),
    packKeys: packIntegerKeys(context, blocks, keyPitch),
    queries: quantizeQueries(context, keyPitch),
    floats: whole ? null : tilesOf(most, (r) => valueTile(context, blocks, pitch, r)),
    integers: whole
      ? {
          close: closeRows(context, blocks),
          scales: columnStatistics(context, pitch, 'scale'),
          pack: packIntegerValues(context, blocks, pitch),
          tiles: tilesOf(most, (r) => integerValueTile(context, blocks, pitch, r)),
        }
      : null,
  };
}

/** Rows of a tile: both products of a tile's rows are taken one after the other. */
const rowsOf = ({ tiles }: KernelContext, precision: IntegerAttentionVariant['precision']): number =>
  precision === 'int8' ? tiles.int8 : Math.min(tiles.int8, tiles.float32);

/**
 * Fused attention over a BlockMask as in `attentionKernel`, its products in integers: see `integerAttention` for what
 * is computed. A unit of work is one head of one sequence, whose keys (and values) are made codes once; queries are,
 * block by block.
 */
export function integerAttentionKernel(variant: IntegerAttentionVariant) {
  const { keySize, headSize, blocks, precision } = variant;
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  const [QUERY_BLOCK, KEY_BLOCK, SCORE_ROW] = [blocks.query, blocks.key, scoreRow(blocks)];
  const { maximum, sum, alpha, factor } = statistics(blocks);
  return kernel({
    name: `integer_attention_${precision}_${keySize}_${headSize}`,
    fields: PAIR_FIELDS,
    build(context, f, at, begin, end) {
      const parts = partsOf(context, variant);
      const codes = codesOf(context.features);
      const panel = panelBytes(keyPitch, codes);
      const head = headPlace(f);
      const { b, h, length, q, k, v } = head;
      const [row, rows, first, keys, i, j, entry, last] = f.localArray('i32', 8);
      const [list, x, y, low, high, bits, bitsAt, stride] = f.localArray('i32', 8);
      // Sums that undo a shift of the weights are those of whole blocks of keys.
      const narrows = !(parts.integers && codes.weightShift);
      const S = context.scratch(f);
      const place = placesOf(f, plus(S, MOST_ROWS * SCORE_ROW), variant, context.features, at.S);
      const inverse = f.local('v128');
      const statsAt = (index: I32) => i32.add(place.stats, times(index, 4));

      /** Weights of `r` rows from the scores of `high` keys at x. */
      const softmaxOfRows = (r: number) => {
        const keyScale = f32.load(rowAt(place.keyScales, i32.div_u(first, i32.const(KEY_BLOCK)), 4));
        const soften = (softmax: number) => () => {
          for (let t = 0; t < r; t++) {
            // Above 0, so that −∞ stays what it is.
            const scale = f32.max(f32.mul(f32.load(y, factor + 4 * t), keyScale), f32.const(1e-30));
            f.call(softmax, plus(x, t * SCORE_ROW), plus(y, 4 * t), scale, high);
          }
        };
        f.if(i32.eq(high, i32.const(KEY_BLOCK)), soften(parts.softmax[1]), soften(parts.softmax[0]));
      };

      /** Adds the values of `high` keys from first + low on to `r` rows. */
      const addValues = (r: number) => {
        const { floats, integers } = parts;
        const from = i32.add(first, low);
        f.for(j, i32.const(0), i32.const(pitch * 4), 32, () => {
          const target = i32.add(rowAt(place.O, i, pitch * 4), j);
          if (floats)
            f.call(
              floats[r],
              x,
              i32.add(rowAt(v, from, pitch * 4), j),
              target,
              plus(y, alpha),
              times(high, 4),
            );
          if (integers) {
            const panelAt = i32.mul(i32.shr_u(j, i32.const(5)), stride);
            const values = i32.add(rowAt(place.values, from, KEYS * codes.bytes), panelAt);
            const sums = i32.add(rowAt(place.sums, i32.div_u(first, i32.const(KEY_BLOCK)), pitch * 4), j);
            const bytes = times(i32.and(plus(high, 7), i32.const(-8)), codes.bytes);
            f.call(integers.tiles[r], x, values, target, y, bytes, sums);
          }
        });
      };

      /** One tile of queries against one block of keys, from the first to the last that any of them keeps. */
      const tileOfPairs = (r: number) => {
        f.set(low, i32.const(0));
        f.set(high, keys);
        f.if(i32.ge_s(bits, i32.const(0)), () => {
          f.set(x, rowAt(bitsAt, i, KEY_BLOCK / 8));
          if (!narrows) return;
          keptRange(f, x, r, KEY_BLOCK, 16, low, high);
          f.set(high, i32.min_s(high, keys));
        });
        f.if(i32.lt_s(low, high), () => {
          f.for(j, low, high, KEYS, () =>
            f.call(
              parts.scores[r],
              rowAt(place.queries, i, keyPitch * codes.bytes),
              rowAt(place.keys, i32.shr_u(i32.add(first, j), i32.const(3)), panel),
              rowAt(S, j, 4),
            ),
          );
          f.if(i32.ge_s(bits, i32.const(0)), () => f.call(parts.mask, S, x, i32.const(r)));
          f.set(x, rowAt(S, low, 4));
          f.set(y, statsAt(i));
          f.set(high, i32.sub(high, low));
          const { integers } = parts;
          if (integers)
            f.if(i32.and(high, i32.const(15)), () => f.call(integers.close, x, i32.const(r), high));
          softmaxOfRows(r);
          addValues(r);
        });
      };

      const blockOfKeys = () => {
        f.set(bits, i32.load(entry, 4));
        f.set(bitsAt, rowAt(at.tiles, bits, (QUERY_BLOCK * KEY_BLOCK) / 8));
        byTiles(f, rows, i, tileOfPairs, parts.most);
      };

      const finishRows = () => {
        const outRow = i32.add(i32.mul(i32.add(i32.mul(b, at.N), row), at.H), h);
        f.set(y, rowAt(at.o, outRow, headSize * 4));
        f.for(i, i32.const(0), rows, 1, () => {
          // A sum this small has seen no key: the row is 0.
          f.set(inverse, v128.load32_splat(statsAt(i), sum));
          f.set(
            inverse,
            v128.andnot(f32x4.div(v128.f32x4(1), inverse), f32x4.lt(inverse, v128.f32x4(1e-30))),
          );
          f.set(x, rowAt(place.O, i, pitch * 4));
          const finished = (d: number): V128 => {
            const mean = f32x4.mul(v128.load(x, 4 * d), inverse);
            return precision === 'int8' ? f32x4.mul(mean, v128.load(place.scales, 4 * d)) : mean;
          };
          for (let d = 0; d + 4 <= headSize; d += 4) f.emit(v128.store(y, finished(d), 4 * d));
          for (let d = headSize & ~3; d < headSize; d++)
            f.emit(v128.store32_lane(y, finished(headSize & ~3), d & 3, 4 * d));
          f.set(y, rowAt(y, at.H, headSize * 4));
        });
      };

      const startRows = () => {
        f.for(i, i32.const(0), i32.const(QUERY_BLOCK * 4), 16, () => {
          f.emit(v128.store(i32.add(place.stats, i), v128.f32x4(NO_KEY), maximum));
          f.emit(v128.store(i32.add(place.stats, i), v128.zero, sum));
        });
        f.for(i, i32.const(0), i32.const(QUERY_BLOCK * pitch * 4), 16, () =>
          f.emit(v128.store(i32.add(place.O, i), v128.zero)),
        );
        f.call(
          parts.queries,
          rowAt(q, row, keyPitch * 4),
          place.queries,
          plus(place.stats, factor),
          rows,
          at.scale,
        );
      };

      eachHead(
        f,
        at,
        begin,
        end,
        head,
        () => {
          f.call(parts.means, k, place.means, length);
          f.call(parts.packKeys, k, place.keys, place.keyScales, place.means, length);
          if (parts.integers) {
            f.set(stride, i32.mul(i32.and(plus(at.S, 7), i32.const(-8)), i32.const(KEYS * codes.bytes)));
            f.call(parts.integers.scales, v, place.scales, length);
            f.call(parts.integers.pack, v, place.values, place.scales, place.sums, length, stride);
          }
          f.set(list, i32.add(i32.mul(h, at.headLists), i32.mul(b, at.batchLists)));
          f.for(row, i32.const(0), at.N, QUERY_BLOCK, () => {
            f.set(rows, i32.min_s(i32.const(QUERY_BLOCK), i32.sub(at.N, row)));
            startRows();
            f.set(x, i32.add(list, times(i32.div_u(row, i32.const(QUERY_BLOCK)), 4)));
            f.set(last, i32.add(at.entries, times(i32.load(i32.add(at.ends, x)), 8)));
            f.for(entry, i32.add(at.entries, times(i32.load(i32.add(at.starts, x)), 8)), last, 8, () => {
              f.set(first, i32.mul(i32.load(entry), i32.const(KEY_BLOCK)));
              f.set(keys, i32.min_s(i32.const(KEY_BLOCK), i32.sub(length, first)));
              f.if(i32.gt_s(keys, i32.const(0)), blockOfKeys);
            });
            finishRows();
          });
        },
        at.group,
      );
    },
  });
}
