import type { Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, type V128, v128 } from '../instructions.ts';
import { byTiles, NO_KEY, PAIR_FIELDS, pad, rowAt, tilesOf } from './attention.ts';
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
  const most = context.tiles.int8;
  return {
    most,
    scores: tilesOf(most, (r) => integerScoreTile(context, blocks, keyPitch, r)),
    softmax: [false, true].map((full) => (whole ? softmaxCodes : softmaxRow)(context, blocks, full)),
    mask: maskRows(context, blocks),
    means: columnStatistics(context, keyPitch, 'mean'),
    packKeys: packIntegerKeys(context, blocks, keyPitch),
    queries: quantizeQueries(context, keyPitch),
    floats: whole ? null : tilesOf(4, (r) => valueTile(context, blocks, pitch, r)),
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

const LOCALS = [
  ...['row', 'rows', 'i', 'j', 'entry', 'last', 'first', 'keys'],
  ...['list', 'x', 'y', 'stride'],
] as const;

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
      const local = Object.fromEntries(LOCALS.map((name) => [name, f.local('i32')]));
      const head = headPlace(f);
      const { b, h, length, q, k, v } = head;
      const { row, rows, i, j, entry, last, first, keys, list, x, y, stride } = local as Record<
        string,
        Variable<'i32'>
      >;
      const S = context.scratch(f);
      const place = placesOf(f, plus(S, QUERY_BLOCK * SCORE_ROW), variant, context.features, at.S);
      const inverse = f.local('v128');
      const statsAt = (index: I32) => i32.add(place.stats, times(index, 4));

      const softmaxOfRows = () => {
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(x, rowAt(S, i, SCORE_ROW));
          f.set(y, statsAt(i));
          const keyScale = f32.load(
            i32.add(place.keyScales, times(i32.div_u(first, i32.const(KEY_BLOCK)), 4)),
          );
          // Above 0, so that −∞ stays what it is.
          const scale = f.local('f32', f32.max(f32.mul(f32.load(y, factor), keyScale), f32.const(1e-30)));
          f.if(
            i32.eq(keys, i32.const(KEY_BLOCK)),
            () => f.call(parts.softmax[1], x, y, scale, keys),
            () => f.call(parts.softmax[0], x, y, scale, keys),
          );
        });
      };

      const addValues = () => {
        const { floats, integers } = parts;
        f.for(j, i32.const(0), i32.const(pitch * 4), 32, () => {
          const target = i32.add(rowAt(place.O, i, pitch * 4), j);
          if (floats) {
            f.set(x, i32.add(rowAt(v, first, pitch * 4), j));
            byTiles(
              f,
              rows,
              i,
              (r) =>
                f.call(floats[r], rowAt(S, i, SCORE_ROW), x, target, plus(statsAt(i), alpha), times(keys, 4)),
              4,
            );
          }
          if (integers) {
            const panelAt = i32.mul(i32.shr_u(j, i32.const(5)), stride);
            f.set(x, i32.add(rowAt(place.values, first, KEYS * codes.bytes), panelAt));
            const keyBlock = i32.div_u(first, i32.const(KEY_BLOCK));
            f.set(y, i32.add(rowAt(place.sums, keyBlock, pitch * 4), j));
            const bytes = times(i32.and(plus(keys, 7), i32.const(-8)), codes.bytes);
            byTiles(
              f,
              rows,
              i,
              (r) => f.call(integers.tiles[r], rowAt(S, i, SCORE_ROW), x, target, statsAt(i), bytes, y),
              parts.most,
            );
          }
        });
      };

      const blockOfKeys = () => {
        f.for(j, i32.const(0), keys, KEYS, () => {
          f.set(x, rowAt(place.keys, i32.shr_u(i32.add(first, j), i32.const(3)), panel));
          byTiles(
            f,
            rows,
            i,
            (r) =>
              f.call(
                parts.scores[r],
                rowAt(place.queries, i, keyPitch * codes.bytes),
                x,
                i32.add(rowAt(S, i, SCORE_ROW), times(j, 4)),
              ),
            parts.most,
          );
        });
        f.set(x, i32.load(entry, 4));
        f.if(i32.ge_s(x, i32.const(0)), () =>
          f.call(parts.mask, S, rowAt(at.tiles, x, (QUERY_BLOCK * KEY_BLOCK) / 8), rows),
        );
        const { integers } = parts;
        if (integers) f.if(i32.and(keys, i32.const(15)), () => f.call(integers.close, S, rows, keys));
        softmaxOfRows();
        addValues();
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
