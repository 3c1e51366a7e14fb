import { NORM_FRACTION } from '../../../program/ops/int-layer-norm.ts';
import { type IntPooling, POOL_FRACTION } from '../../../program/ops/int-pool.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import {
  addSquares,
  clampLanes,
  loadCodes,
  multiplyShift,
  rounding,
  rowNormalizer,
  storeCodes,
  storeWords,
} from './integer-arithmetic.ts';
import { i64x2, xor } from './integer-instructions.ts';
import { eachVector, kernel, plus, reduce, splat, times } from './kernel.ts';
import { existing } from './product.ts';

const LOWEST = v128.i32x4(-128);
const HIGHEST = v128.i32x4(127);

/** Walks `columns` in fours; `body` gets how many are left. */
function eachFour(
  f: FunctionBuilder,
  columns: I32,
  cursors: readonly (readonly [cursor: Variable<'i32'>, bytes: number])[],
  body: (left: Variable<'i32'>) => void,
): void {
  const left = f.local('i32', columns);
  f.while(
    () => i32.gt_s(left, i32.const(0)),
    () => {
      body(left);
      for (const [cursor, bytes] of cursors) f.increment(cursor, 4 * bytes);
      f.increment(left, -4);
    },
  );
}

/** See `intLayerNorm`; a unit is one row. */
export const intLayerNormKernel = kernel({
  name: 'int_layer_norm',
  fields: {
    x: 'i32',
    y: 'i32',
    multiplier: 'i32',
    bias: 'i32',
    columns: 'i32',
    epsilonLow: 'i32',
    epsilonHigh: 'i32',
    shift: 'i32',
    zeroPoint: 'i32',
  },
  build(_context, f, at, begin, end) {
    const [row, from, x, y, g, b, mean] = f.localArray('i32', 7);
    const [sum, squares, centre, n, m] = f.localArray('v128', 5);
    const norm = rowNormalizer(f);
    const byColumn = rounding(f, at.shift);
    const zeroPoint = f.local('v128', i32x4.splat(at.zeroPoint));
    // Rows' sums reach from −2^30 to 2^30: raised by ⌈2^30 / C⌉ · C they have no sign, and a division rounds down.
    const raise = f.local('i32', i32.div_u(plus(at.columns, 2 ** 30 - 1), at.columns));
    f.for(row, begin, end, 1, () => {
      f.set(from, i32.add(at.x, i32.mul(row, times(at.columns, 4))));
      f.set(sum, v128.zero);
      f.set(x, from);
      eachVector(f, at.columns, [x], 1, (lanes) => f.set(sum, i32x4.add(sum, lanes.keep(lanes.load(x)))));
      reduce(f, [sum], i32x4.add);
      const raised = i32.add(
        i32.add(i32x4.lane(sum, 0), i32.mul(raise, at.columns)),
        i32.shr_u(at.columns, i32.const(1)),
      );
      f.set(mean, i32.sub(i32.div_u(raised, at.columns), raise));
      f.set(centre, i32x4.splat(mean));
      f.set(squares, v128.zero);
      f.set(x, from);
      eachVector(f, at.columns, [x], 1, (lanes) => {
        f.set(n, lanes.keep(i32x4.sub(lanes.load(x), centre)));
        addSquares(f, squares, n);
      });
      // ε once, in the lower of both sums.
      f.set(n, words(at.epsilonLow, at.epsilonHigh));
      f.set(squares, i64x2.add(squares, n));
      norm.set(squares);
      f.set(x, from);
      f.set(y, i32.add(at.y, i32.mul(row, at.columns)));
      f.set(g, at.multiplier);
      f.set(b, at.bias);
      eachFour(
        f,
        at.columns,
        [
          [x, 4],
          [y, 1],
          [g, 4],
          [b, 4],
        ],
        (left) => {
          f.set(n, i32x4.sub(v128.load(x), centre));
          f.set(n, multiplyShift(n, norm.reciprocal, norm.rounding));
          f.set(m, v128.load(g));
          f.set(n, i32x4.add(multiplyShift(n, m, byColumn), v128.load(b)));
          const code = i32x4.shr_s(
            i32x4.add(n, v128.i32x4(2 ** (NORM_FRACTION - 1))),
            i32.const(NORM_FRACTION),
          );
          f.set(n, clampLanes(i32x4.add(code, zeroPoint), LOWEST, HIGHEST));
          storeCodes(f, y, left, n);
        },
      );
    });
  },
});

/** A 64-bit number in the lower half, 0 in the upper. */
const words = (low: I32, high: I32): V128 => {
  const pair = v128.shuffle(i32x4.splat(low), i32x4.splat(high), [
    ...[0, 1, 2, 3, 16, 17, 18, 19],
    ...[0, 1, 2, 3, 16, 17, 18, 19],
  ]);
  return v128.and(pair, v128.i32x4(-1, -1, 0, 0));
};

/** See `intL2Normalize`; a unit is one row. */
export const intL2NormalizeKernel = kernel({
  name: 'int_l2_normalize',
  fields: { x: 'i32', y: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, y, step] = f.localArray('i32', 4);
    const [squares, n] = f.localArray('v128', 2);
    const norm = rowNormalizer(f);
    f.for(row, begin, end, 1, () => {
      f.set(step, i32.mul(row, times(at.columns, 4)));
      f.set(squares, v128.zero);
      f.set(x, i32.add(at.x, step));
      eachVector(f, at.columns, [x], 1, (lanes) => {
        f.set(n, lanes.load(x));
        addSquares(f, squares, n);
      });
      norm.set(squares);
      f.set(x, i32.add(at.x, step));
      f.set(y, i32.add(at.y, step));
      eachFour(
        f,
        at.columns,
        [
          [x, 4],
          [y, 4],
        ],
        (left) => {
          f.set(n, v128.load(x));
          f.set(n, multiplyShift(n, norm.reciprocal, norm.rounding));
          storeWords(f, y, left, n);
        },
      );
    });
  },
});

/** See `requantize`; a unit is one row. */
export const requantizeKernel = kernel({
  name: 'requantize',
  fields: { x: 'i32', y: 'i32', columns: 'i32', multiplier: 'i32', shift: 'i32', zeroPoint: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, y] = f.localArray('i32', 3);
    const n = f.local('v128');
    const [m, zeroPoint] = [at.multiplier, at.zeroPoint].map((i) => f.local('v128', i32x4.splat(i)));
    const round = rounding(f, at.shift);
    f.for(row, begin, end, 1, () => {
      f.set(x, i32.add(at.x, i32.mul(row, times(at.columns, 4))));
      f.set(y, i32.add(at.y, i32.mul(row, at.columns)));
      eachFour(
        f,
        at.columns,
        [
          [x, 4],
          [y, 1],
        ],
        (left) => {
          f.set(n, v128.load(x));
          f.set(n, clampLanes(i32x4.add(multiplyShift(n, m, round), zeroPoint), LOWEST, HIGHEST));
          storeCodes(f, y, left, n);
        },
      );
    });
  },
});

/** See `dequantize`; a unit is one row. */
export const dequantizeKernel = kernel({
  name: 'dequantize',
  fields: { x: 'i32', y: 'i32', columns: 'i32', scale: 'f32' },
  build(_context, f, at, begin, end) {
    const [row, x, y, step] = f.localArray('i32', 4);
    f.for(row, begin, end, 1, () => {
      f.set(step, i32.mul(row, times(at.columns, 4)));
      f.set(x, i32.add(at.x, step));
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, y], 1, (lanes) =>
        lanes.store(y, f32x4.mul(f32x4.convert_i32x4_s(lanes.load(x)), splat(at.scale))),
      );
    });
  },
});

/** See `intPool`; a unit is four columns of one sequence. */
export const intPoolKernel = (pooling: IntPooling) =>
  kernel({
    name: `int_pool_${pooling}`,
    fields: { x: 'i32', y: 'i32', lengths: 'i32', N: 'i32', columns: 'i32', zeroPoint: 'i32' },
    build(_context, f, at, begin, end) {
      const [unit, b, column, rows, x, y, i, whole, left] = f.localArray('i32', 9);
      const sum = f.local('v128');
      const groups = f.local('i32', i32.shr_u(plus(at.columns, 3), i32.const(2)));
      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, groups));
        f.set(column, times(i32.rem_u(unit, groups), 4));
        f.set(left, i32.sub(at.columns, column));
        f.set(rows, existing(at.lengths, b, at.N));
        if (pooling === 'first') f.set(rows, i32.min_s(rows, i32.const(1)));
        f.set(x, i32.add(at.x, i32.add(i32.mul(i32.mul(b, at.N), at.columns), column)));
        f.set(y, i32.add(at.y, times(i32.add(i32.mul(b, at.columns), column), 4)));
        f.set(sum, pooling === 'max' ? LOWEST : v128.zero);
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(sum, (pooling === 'max' ? i32x4.max_s : i32x4.add)(sum, loadCodes(x)));
          f.set(x, i32.add(x, at.columns));
        });
        const zeros = pooling === 'max' ? at.zeroPoint : i32.mul(rows, at.zeroPoint);
        f.set(sum, i32x4.shl(i32x4.sub(sum, i32x4.splat(zeros)), i32.const(POOL_FRACTION)));
        f.if(i32.eqz(rows), () => f.set(sum, v128.zero));
        for (let lane = 0; lane < 4; lane++)
          f.if(i32.gt_s(left, i32.const(lane)), () => {
            f.set(whole, i32x4.lane(sum, lane));
            if (pooling === 'mean')
              f.if(rows, () => {
                const sign = f.local('i32', i32.shr_s(whole, i32.const(31)));
                const magnitude = i32.sub(xor(whole, sign), sign);
                f.set(whole, i32.div_u(i32.add(magnitude, i32.shr_u(rows, i32.const(1))), rows));
                f.set(whole, i32.sub(xor(whole, sign), sign));
              });
            f.emit(i32.store(plus(y, 4 * lane), whole));
          });
      });
    },
  });
