import { LEAST_SUM } from '../../../../program/ops/stored-attention.ts';
import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { byTiles, pad } from '../../kernels/attention.ts';
import { type Blocks, KEYS, packKeys, scoreRow, scoreTile } from '../../kernels/attention-tiles.ts';
import {
  eachVector,
  type Kernel,
  type KernelContext,
  kernel,
  plus,
  reduce,
  splat,
  times,
} from '../../kernels/kernel.ts';
import { clear, existing, productFunction } from '../../kernels/product.ts';
import { transposeBlock } from './attention.ts';

const BLOCKS: Blocks = { query: 64, key: 64 };
const ROW = scoreRow(BLOCKS);
const BLOCK = BLOCKS.query * ROW;
const TILE_ROWS = 4;

/** Bytes of scratch that one thread needs: three blocks of pairs, row statistics, rows of dO, packed values. */
export const storedAttentionGradientScratch = (N: number, headSize: number): number =>
  3 * BLOCK + BLOCKS.query * (8 + pad(headSize) * 4) + ((N + KEYS - 1) & -KEYS) * pad(headSize) * 4;

/** One row of a block: P = R² / Σ to `p`, dR = 2R (dP − δ) / Σ added to the gradient. */
function rowOfPairs({ module }: KernelContext): number {
  return module.func(
    'training_stored_row',
    { roots: 'i32', p: 'i32', dP: 'i32', gradient: 'i32', keys: 'i32', inverse: 'f32', delta: 'f32' },
    (f, a) => {
      const [x, p, d, g] = f.localArray('i32', 4);
      const [inverse, delta] = [f.local('v128', splat(a.inverse)), f.local('v128', splat(a.delta))];
      for (const [cursor, from] of [
        [x, a.roots],
        [p, a.p],
        [d, a.dP],
        [g, a.gradient],
      ])
        f.set(cursor, from);
      const root = f.local('v128');
      eachVector(f, a.keys, [x, p, d, g], 1, (lanes) => {
        f.set(root, lanes.load(x));
        lanes.store(p, f32x4.mul(f32x4.mul(root, root), inverse));
        f.if(a.gradient, () => {
          const slope = f32x4.mul(f32x4.mul(f32x4.add(root, root), inverse), f32x4.sub(lanes.load(d), delta));
          lanes.store(g, f32x4.add(lanes.load(g), slope));
        });
      });
    },
  );
}

/** Gradients of stored attention. A unit is one head, of all sequences: they share its weights. */
export function storedAttentionGradientKernel(headSize: number): Kernel {
  const pitch = pad(headSize);
  return kernel({
    name: `training_stored_${headSize}`,
    fields: {
      /** `[H, most, most]`, and from there to its gradient or 0. */
      roots: 'i32',
      dRoots: 'i32',
      most: 'i32',
      /** First head of the values, their gradient. */
      v: 'i32',
      dV: 'i32',
      o: 'i32',
      dO: 'i32',
      lengths: 'i32',
      B: 'i32',
      N: 'i32',
      H: 'i32',
    },
    build(context, f, at, begin, end) {
      const tiles = Array.from({ length: TILE_ROWS + 1 }, (_, r) =>
        r ? scoreTile(context, BLOCKS, pitch, r) : 0,
      );
      const pack = packKeys(context, pitch);
      const pairs = rowOfPairs(context);
      const exchange = transposeBlock(context, BLOCKS);
      const product = productFunction(context, 'training_stored', pitch);
      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const { h, b, length, row, rows, first, keys, i, j, x, y, v, dV, stat, root } = locals(
        ...[
          'h',
          'b',
          'length',
          'row',
          'rows',
          'first',
          'keys',
          'i',
          'j',
          'x',
          'y',
          'v',
          'dV',
          'stat',
          'root',
        ],
      );
      const P = context.scratch(f);
      const dP = f.local('i32', plus(P, BLOCK));
      const exchanged = f.local('i32', plus(dP, BLOCK));
      const stats = f.local('i32', plus(exchanged, BLOCK));
      const dO = f.local('i32', plus(stats, BLOCKS.query * 8));
      const packed = f.local('i32', plus(dO, BLOCKS.query * pitch * 4));
      const value = f.local('v128');
      const sums = f.localArray('v128', 2);
      const inverse = f.local('f32');
      const rootRow = () =>
        i32.add(at.roots, times(i32.mul(i32.add(i32.mul(h, at.most), i32.add(row, i)), at.most), 4));

      /** Rows of dO with columns up to the pitch; of each row 1/ΣR² and Σ dO·O. */
      const startRows = () =>
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(stat, i32.add(stats, times(i, 8)));
          const n = i32.add(i32.mul(b, at.N), i32.add(row, i));
          f.set(x, i32.mul(i32.add(i32.mul(n, at.H), h), i32.const(headSize * 4)));
          f.set(y, i32.add(dO, i32.mul(i, i32.const(pitch * 4))));
          for (const s of sums) f.set(s, v128.zero);
          for (let d = 0; d < pitch; d += 4) {
            const lanes = [0, 1, 2, 3].map((lane) => (d + lane < headSize ? -1 : 0));
            f.set(value, d < headSize ? v128.load(i32.add(at.dO, x), 4 * d) : v128.zero);
            if (d < headSize && d + 4 > headSize) f.set(value, v128.and(value, v128.i32x4(...lanes)));
            f.emit(v128.store(y, value, 4 * d));
            if (d < headSize)
              f.set(sums[0], f32x4.add(sums[0], f32x4.mul(value, v128.load(i32.add(at.o, x), 4 * d))));
          }
          f.emit(v128.store32_lane(stat, reduce(f, [sums[0]], f32x4.add), 0, 4));
          f.set(root, rootRow());
          eachVector(f, length, [root], 1, (lanes) => {
            f.set(value, lanes.load(root));
            f.set(sums[1], f32x4.add(sums[1], f32x4.mul(value, value)));
          });
          reduce(f, [sums[1]], f32x4.add);
          f.set(
            value,
            v128.andnot(f32x4.div(v128.f32x4(1), sums[1]), f32x4.lt(sums[1], v128.f32x4(LEAST_SUM))),
          );
          f.emit(v128.store32_lane(stat, value, 0));
        });

      const blockOfKeys = () => {
        f.set(keys, i32.min_s(i32.const(BLOCKS.key), i32.sub(length, first)));
        f.for(j, i32.const(0), keys, KEYS, () => {
          f.set(x, i32.add(packed, i32.mul(i32.add(first, j), i32.const(pitch * 4))));
          byTiles(
            f,
            rows,
            i,
            (r) =>
              f.call(
                tiles[r],
                i32.add(dO, i32.mul(i, i32.const(pitch * 4))),
                x,
                i32.add(dP, i32.add(i32.mul(i, i32.const(ROW)), times(j, 4))),
              ),
            TILE_ROWS,
          );
        });
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(stat, i32.add(stats, times(i, 8)));
          f.set(root, i32.add(rootRow(), times(first, 4)));
          f.set(x, i32.mul(i, i32.const(ROW)));
          f.set(inverse, f32.load(stat));
          f.call(
            pairs,
            root,
            i32.add(P, x),
            i32.add(dP, x),
            i32.select(i32.add(root, at.dRoots), i32.const(0), at.dRoots),
            keys,
            inverse,
            f32.load(stat, 4),
          );
        });
        f.call(exchange, P, exchanged, rows, keys);
        f.call(
          product,
          exchanged,
          i32.const(BLOCKS.query * 4),
          dO,
          i32.add(dV, i32.mul(first, i32.const(pitch * 4))),
          times(rows, 4),
          keys,
        );
      };

      f.for(h, begin, end, 1, () =>
        f.for(b, i32.const(0), at.B, 1, () => {
          f.set(length, existing(at.lengths, b, at.N));
          const offset = i32.mul(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), i32.const(pitch * 4));
          f.set(v, i32.add(at.v, offset));
          f.set(dV, i32.add(at.dV, offset));
          clear(f, x, dV, i32.mul(at.N, i32.const(pitch * 4)));
          f.call(pack, v, packed, length);
          f.for(row, i32.const(0), at.N, BLOCKS.query, () => {
            f.set(rows, i32.min_s(i32.const(BLOCKS.query), i32.sub(at.N, row)));
            startRows();
            f.for(first, i32.const(0), length, BLOCKS.key, blockOfKeys);
          });
        }),
      );
    },
  }) as Kernel;
}
