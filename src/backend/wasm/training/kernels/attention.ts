import type { Variable } from '../../assembler.ts';
import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { type AttentionVariant, byTiles, PAIR_FIELDS, pad } from '../../kernels/attention.ts';
import { type Blocks, KEYS, maskRows, packKeys, scoreRow, scoreTile } from '../../kernels/attention-tiles.ts';
import { type KernelContext, kernel, multiplyAdd, plus, reduce, splat, times } from '../../kernels/kernel.ts';
import { exp2 } from '../../kernels/math.ts';
import { productFunction } from '../../kernels/product.ts';
import { transposed } from './layout.ts';
import type { GradientHook } from './score-gradient.ts';

const FIELDS = {
  ...PAIR_FIELDS,
  /** Row statistics of the forward pass, and their gradient or 0. */
  statistics: 'i32',
  dStatistics: 'i32',
  dO: 'i32',
  /** From queries, keys and values to their gradients, which have the same layout; 0 where there is none. */
  dQ: 'i32',
  dK: 'i32',
  dV: 'i32',
  /** Sequences of one unit of work: all where a gradient is shared by them, else 1. */
  batches: 'i32',
} as const;

const TILE_ROWS = 4;

/** What a kernel is generated for. */
export interface AttentionGradientVariant extends Omit<AttentionVariant, 'hook'> {
  readonly hook?: GradientHook;
}

/** Bytes of scratch that one thread needs: four blocks of pairs, row statistics, rows of dO, packed keys and values. */
export function attentionGradientScratch(
  S: number,
  { keySize, headSize, blocks, hook }: AttentionGradientVariant,
): number {
  const packed = ((S + KEYS - 1) & -KEYS) * (pad(keySize) + pad(headSize)) * 4;
  return (
    4 * blocks.query * scoreRow(blocks) +
    blocks.query * (16 + pad(headSize) * 4) +
    packed +
    (hook?.scratchBytes ?? 0)
  );
}

/** P = 2^(score − largest) / sum, dS = P · (dP − δ) · scale, over one row of a block. */
function rowOfPairs({ module, features }: KernelContext, blocks: Blocks): number {
  const madd = multiplyAdd(features);
  return module.func(
    'training_attention_row',
    { s: 'i32', d: 'i32', stats: 'i32', log2Scale: 'f32', scale: 'f32', keys: 'i32' },
    (f, p) => {
      const [negative, inverse, delta, scale, log2Scale, weight] = f.localArray('v128', 6);
      const end = f.local('i32', i32.add(p.s, times(p.keys, 4)));
      f.set(negative, v128.load32_splat(p.stats));
      f.set(inverse, v128.load32_splat(p.stats, blocks.query * 4));
      f.set(delta, v128.load32_splat(p.stats, blocks.query * 8));
      f.set(scale, splat(p.scale));
      f.set(log2Scale, splat(p.log2Scale));
      f.while(
        () => i32.lt_u(p.s, end),
        () => {
          f.set(weight, f32x4.mul(exp2(f, features, madd(v128.load(p.s), log2Scale, negative)), inverse));
          f.emit(v128.store(p.s, weight));
          f.emit(v128.store(p.d, f32x4.mul(f32x4.mul(weight, f32x4.sub(v128.load(p.d), delta)), scale)));
          f.increment(p.s, 16);
          f.increment(p.d, 16);
        },
      );
    },
  );
}

/** A block of pairs with queries and keys exchanged; both counts are rounded up to 4. */
export function transposeBlock({ module }: KernelContext, blocks: Blocks): number {
  return module.func(
    'training_attention_transpose',
    { from: 'i32', to: 'i32', rows: 'i32', keys: 'i32' },
    (f, p) => {
      const [i, j] = f.localArray('i32', 2);
      const [ROW, COLUMN] = [scoreRow(blocks), blocks.query * 4];
      f.for(i, i32.const(0), p.rows, 4, () =>
        f.for(j, i32.const(0), p.keys, 4, () => {
          const from = f.local('i32');
          const to = f.local('i32');
          f.set(from, i32.add(p.from, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))));
          f.set(to, i32.add(p.to, i32.add(i32.mul(j, i32.const(COLUMN)), times(i, 4))));
          const columns = transposed(
            f,
            [0, 1, 2, 3].map((r) => v128.load(from, r * ROW)),
          );
          for (const [r, x] of columns.entries()) f.emit(v128.store(to, x, r * COLUMN));
        }),
      );
    },
  );
}

/**
 * Backward pass of fused attention over a BlockMask (Dao 2023, section 3.1). A unit is one head of keys and values, of
 * one sequence or of all, with every head of queries that reads it: no two units write the same gradient.
 */
export function attentionGradientKernel(variant: AttentionGradientVariant) {
  const { keySize, headSize, blocks, hook } = variant;
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  const [QUERY_BLOCK, KEY_BLOCK, SCORE_ROW] = [blocks.query, blocks.key, scoreRow(blocks)];
  const BLOCK = QUERY_BLOCK * SCORE_ROW;
  return kernel({
    name: `training_attention_${keySize}_${headSize}`,
    fields: { ...FIELDS, ...hook?.fields } as typeof FIELDS,
    build(context, f, at, begin, end) {
      const change = hook?.build(context);
      const tiles = (columns: number) =>
        Array.from({ length: TILE_ROWS + 1 }, (_, r) => (r ? scoreTile(context, blocks, columns, r) : 0));
      const [scores, products] = [tiles(keyPitch), keyPitch === pitch ? null : tiles(pitch)];
      const pack = packKeys(context, keyPitch);
      const packValues = keyPitch === pitch ? pack : packKeys(context, pitch);
      const mask = maskRows(context, blocks);
      const pairs = rowOfPairs(context, blocks);
      const exchange = transposeBlock(context, blocks);
      const byKeys = productFunction(context, 'training_attention', keyPitch);
      const byValues = keyPitch === pitch ? byKeys : productFunction(context, 'training_attention', pitch);
      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const { unit, b, lastB, g, h, lastH, q, k, v, length } = locals(
        ...['unit', 'b', 'lastB', 'g', 'h', 'lastH', 'q', 'k', 'v', 'length'],
      );
      const { row, rows, i, j, entry, last, first, keys, list, x, y, stat } = locals(
        ...['row', 'rows', 'i', 'j', 'entry', 'last', 'first', 'keys', 'list', 'x', 'y', 'stat'],
      );
      const S = context.scratch(f);
      const dP = f.local('i32', plus(S, BLOCK));
      const transposedP = f.local('i32', plus(dP, BLOCK));
      const transposedD = f.local('i32', plus(transposedP, BLOCK));
      // Of each row: −largest in powers of two, 1 / sum, Σ dO · O less the statistics' gradient.
      const stats = f.local('i32', plus(transposedD, BLOCK));
      const dO = f.local('i32', plus(stats, QUERY_BLOCK * 16));
      const hooked = f.local('i32', plus(dO, QUERY_BLOCK * pitch * 4));
      const packedK = f.local('i32', plus(hooked, hook?.scratchBytes ?? 0));
      const block = { head: h, row, rows, first, keys, scratch: hooked, scores: S, gradients: dP };
      const packedV = f.local('i32');
      const scale = f.local('f32');
      const value = f.local('v128');
      const keyHeads = i32.div_u(at.H, at.group);
      const source = (name: 'q' | 'k' | 'v', head: Variable<'i32'>) =>
        i32.add(at[name], i32.add(i32.mul(head, at[`${name}Head`]), i32.mul(b, at[`${name}Batch`])));

      /** Statistics of the block's rows, and dO's rows with columns up to the pitch. */
      const startRows = () => {
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(stat, i32.add(stats, times(i, 4)));
          const n = i32.add(row, i);
          f.set(x, i32.mul(i32.add(i32.mul(i32.add(i32.mul(b, at.N), n), at.H), h), i32.const(headSize * 4)));
          f.set(y, i32.add(dO, i32.mul(i, i32.const(pitch * 4))));
          const sums = f.localArray('v128', 1);
          f.set(sums[0], v128.zero);
          for (let d = 0; d < headSize; d += 4) {
            f.set(value, v128.load(i32.add(at.dO, x), 4 * d));
            // The last columns are another head's.
            if (headSize - d < 4) {
              const lanes = [0, 1, 2, 3].map((lane) => (lane < headSize - d ? -1 : 0));
              f.set(value, v128.and(value, v128.i32x4(...lanes)));
            }
            f.emit(v128.store(y, value, 4 * d));
            f.set(sums[0], f32x4.add(sums[0], f32x4.mul(value, v128.load(i32.add(at.o, x), 4 * d))));
          }
          for (let d = (headSize + 3) & ~3; d < pitch; d += 4) f.emit(v128.store(y, v128.zero, 4 * d));
          const sum = reduce(f, sums, f32x4.add);
          f.set(x, times(i32.add(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), n), 8));
          f.if(at.dStatistics, () =>
            f.set(sum, f32x4.sub(sum, v128.load32_splat(i32.add(at.dStatistics, x)))),
          );
          f.emit(v128.store32_lane(stat, sum, 0, QUERY_BLOCK * 8));
          // A row without a key has sum 0 and largest −∞.
          f.set(value, v128.load32_splat(i32.add(at.statistics, x), 4));
          const kept = f.local('v128');
          f.set(kept, f32x4.gt(value, v128.zero));
          f.emit(
            v128.store32_lane(stat, v128.and(f32x4.div(v128.f32x4(1), value), kept), 0, QUERY_BLOCK * 4),
          );
          const largest = v128.load32_splat(i32.add(at.statistics, x));
          f.emit(v128.store32_lane(stat, v128.and(f32x4.mul(largest, v128.f32x4(-Math.LOG2E)), kept), 0));
        });
      };

      const blockOfKeys = () => {
        const queryRow = () => i32.add(q, i32.mul(i32.add(row, i), i32.const(keyPitch * 4)));
        f.for(j, i32.const(0), keys, KEYS, () => {
          const place = () => i32.add(i32.mul(i, i32.const(SCORE_ROW)), times(j, 4));
          f.set(x, i32.add(packedK, i32.mul(i32.add(first, j), i32.const(keyPitch * 4))));
          byTiles(f, rows, i, (r) => f.call(scores[r], queryRow(), x, i32.add(S, place())), TILE_ROWS);
          f.set(x, i32.add(packedV, i32.mul(i32.add(first, j), i32.const(pitch * 4))));
          byTiles(
            f,
            rows,
            i,
            (r) =>
              f.call(
                (products ?? scores)[r],
                i32.add(dO, i32.mul(i, i32.const(pitch * 4))),
                x,
                i32.add(dP, place()),
              ),
            TILE_ROWS,
          );
        });
        change?.before(f, at, block);
        f.set(x, i32.load(entry, 4));
        f.if(i32.ge_s(x, i32.const(0)), () =>
          f.call(mask, S, i32.add(at.tiles, i32.mul(x, i32.const((QUERY_BLOCK * KEY_BLOCK) / 8))), rows),
        );
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(x, i32.mul(i, i32.const(SCORE_ROW)));
          f.call(pairs, i32.add(S, x), i32.add(dP, x), i32.add(stats, times(i, 4)), at.scale, scale, keys);
        });
        change?.after(f, at, block);
        const keyRow = i32.mul(first, i32.const(keyPitch * 4));
        f.if(at.dQ, () =>
          f.call(
            byKeys,
            dP,
            i32.const(SCORE_ROW),
            i32.add(k, keyRow),
            i32.add(i32.add(q, i32.mul(row, i32.const(keyPitch * 4))), at.dQ),
            times(keys, 4),
            rows,
          ),
        );
        f.if(at.dK, () => {
          f.call(exchange, dP, transposedD, rows, keys);
          f.call(
            byKeys,
            transposedD,
            i32.const(QUERY_BLOCK * 4),
            i32.add(q, i32.mul(row, i32.const(keyPitch * 4))),
            i32.add(i32.add(k, keyRow), at.dK),
            times(rows, 4),
            keys,
          );
        });
        f.if(at.dV, () => {
          f.call(exchange, S, transposedP, rows, keys);
          f.call(
            byValues,
            transposedP,
            i32.const(QUERY_BLOCK * 4),
            dO,
            i32.add(i32.add(v, i32.mul(first, i32.const(pitch * 4))), at.dV),
            times(rows, 4),
            keys,
          );
        });
      };

      // `at.scale` is that of powers of two.
      f.set(scale, f32.mul(at.scale, f32.const(Math.LN2)));
      f.for(unit, begin, end, 1, () => {
        f.set(g, i32.rem_u(unit, keyHeads));
        f.set(b, i32.mul(i32.div_u(unit, keyHeads), at.batches));
        f.set(lastB, i32.add(b, at.batches));
        f.for(b, b, lastB, 1, () => {
          f.set(length, at.S);
          f.if(at.lengths, () => f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.S)));
          f.set(k, source('k', g));
          f.set(v, source('v', g));
          f.set(
            packedV,
            i32.add(
              packedK,
              i32.mul(i32.and(plus(at.S, KEYS - 1), i32.const(-KEYS)), i32.const(keyPitch * 4)),
            ),
          );
          f.call(pack, k, packedK, length);
          f.call(packValues, v, packedV, length);
          f.set(h, i32.mul(g, at.group));
          f.set(lastH, i32.add(h, at.group));
          f.for(h, h, lastH, 1, () => {
            f.set(q, source('q', h));
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
            });
          });
        });
      });
    },
  });
}
