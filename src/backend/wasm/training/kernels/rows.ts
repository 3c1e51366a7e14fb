import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, kernel, reduce, splat, times } from '../../kernels/kernel.ts';

/** Σ over a row of `term` of the vectors under the cursors, in every lane. */
function sum(
  f: FunctionBuilder,
  columns: I32,
  cursors: readonly (readonly [Variable<'i32'>, I32])[],
  term: (...x: V128[]) => V128,
): Variable<'v128'> {
  const sums = f.localArray('v128', 2);
  for (const s of sums) f.set(s, v128.zero);
  for (const [cursor, from] of cursors) f.set(cursor, from);
  eachVector(
    f,
    columns,
    cursors.map(([c]) => c),
    2,
    (lanes) =>
      f.set(
        sums[lanes.slot],
        f32x4.add(sums[lanes.slot], lanes.keep(term(...cursors.map(([c]) => lanes.load(c))))),
      ),
  );
  return reduce(f, sums, f32x4.add);
}

/** A unit is one row; `statistics` gets each row's mean and 1/σ. */
export const layerNormGradientKernel = kernel({
  name: 'training_layer_norm_gradient',
  fields: { x: 'i32', dy: 'i32', y: 'i32', statistics: 'i32', scale: 'i32', columns: 'i32', epsilon: 'f32' },
  build(_context, f, at, begin, end) {
    const [row, x, dy, y, g, x0, dy0, to] = f.localArray('i32', 8);
    const [count, mean, inverse, meanG, meanGHat] = f.localArray('v128', 5);
    f.set(count, splat(f32.convert_i32_s(at.columns)));
    f.for(row, begin, end, 1, () => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(x0, i32.add(at.x, step));
      f.set(dy0, i32.add(at.dy, step));
      f.set(
        mean,
        f32x4.div(
          sum(f, at.columns, [[x, x0]], (v) => v),
          count,
        ),
      );
      const centred = (v: V128) => f32x4.sub(v, mean);
      const squares = sum(f, at.columns, [[x, x0]], (v) => {
        const c = f.local('v128', centred(v));
        return f32x4.mul(c, c);
      });
      f.set(
        inverse,
        f32x4.div(v128.f32x4(1), f32x4.sqrt(f32x4.add(f32x4.div(squares, count), splat(at.epsilon)))),
      );
      f.set(to, i32.add(at.statistics, times(row, 8)));
      f.emit(v128.store32_lane(to, mean, 0));
      f.emit(v128.store32_lane(to, inverse, 0, 4));
      f.set(
        meanG,
        f32x4.div(
          sum(
            f,
            at.columns,
            [
              [dy, dy0],
              [g, at.scale],
            ],
            (d, s) => f32x4.mul(d, s),
          ),
          count,
        ),
      );
      f.set(
        meanGHat,
        f32x4.div(
          sum(
            f,
            at.columns,
            [
              [dy, dy0],
              [g, at.scale],
              [x, x0],
            ],
            (d, s, v) => f32x4.mul(f32x4.mul(d, s), f32x4.mul(centred(v), inverse)),
          ),
          count,
        ),
      );
      f.set(x, x0);
      f.set(dy, dy0);
      f.set(g, at.scale);
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, dy, g, y], 1, (lanes) => {
        const hat = f32x4.mul(centred(lanes.load(x)), inverse);
        const rest = f32x4.sub(
          f32x4.sub(f32x4.mul(lanes.load(dy), lanes.load(g)), meanG),
          f32x4.mul(hat, meanGHat),
        );
        lanes.store(y, f32x4.mul(rest, inverse));
      });
    });
  },
});

/** Columns of one unit of a sum over rows: a cache line. */
export const COLUMNS = 16;

/** `scale += Σ dy · x̂`, `bias += Σ dy` over rows; either may be 0. A unit is 16 columns. */
export const layerNormWeightGradientKernel = kernel({
  name: 'training_layer_norm_weight_gradient',
  fields: {
    x: 'i32',
    dy: 'i32',
    statistics: 'i32',
    scale: 'i32',
    bias: 'i32',
    rows: 'i32',
    columns: 'i32',
  },
  build(_context, f, at, begin, end) {
    const [unit, column, vectors, x, dy, s, row, left] = f.localArray('i32', 8);
    const [mean, inverse, d] = f.localArray('v128', 3);
    const scales = f.localArray('v128', COLUMNS / 4);
    const biases = f.localArray('v128', COLUMNS / 4);
    f.for(unit, begin, end, 1, () => {
      f.set(column, times(unit, COLUMNS));
      f.set(vectors, i32.min_s(i32.const(COLUMNS), i32.sub(at.columns, column)));
      for (const v of [...scales, ...biases]) f.set(v, v128.zero);
      f.set(x, i32.add(at.x, times(column, 4)));
      f.set(dy, i32.add(at.dy, times(column, 4)));
      f.set(s, at.statistics);
      f.for(row, i32.const(0), at.rows, 1, () => {
        f.set(mean, v128.load32_splat(s));
        f.set(inverse, v128.load32_splat(s, 4));
        // Columns past the last are summed too, and left out when the sums are stored.
        for (let i = 0; i < COLUMNS / 4; i++) {
          f.set(d, v128.load(dy, 16 * i));
          const hat = f32x4.mul(f32x4.sub(v128.load(x, 16 * i), mean), inverse);
          f.set(scales[i], f32x4.add(scales[i], f32x4.mul(d, hat)));
          f.set(biases[i], f32x4.add(biases[i], d));
        }
        f.set(x, i32.add(x, times(at.columns, 4)));
        f.set(dy, i32.add(dy, times(at.columns, 4)));
        f.increment(s, 8);
      });
      for (const [sums, base] of [
        [scales, at.scale],
        [biases, at.bias],
      ] as const)
        f.if(base, () => addTo(f, i32.add(base, times(column, 4)), sums, vectors, left));
    });
  },
});

/** Adds the first `count` of `sums`' floats to those at `to`. */
export function addTo(
  f: FunctionBuilder,
  to: I32,
  sums: readonly Variable<'v128'>[],
  count: Variable<'i32'>,
  cursor: Variable<'i32'>,
): void {
  f.set(cursor, to);
  sums.forEach((s, i) => {
    f.if(
      i32.ge_s(count, i32.const(4 * i + 4)),
      () => f.emit(v128.store(cursor, f32x4.add(v128.load(cursor, 16 * i), s), 16 * i)),
      () => {
        for (let lane = 0; lane < 3; lane++)
          f.if(i32.gt_s(count, i32.const(4 * i + lane)), () =>
            f.emit(
              f32.store(
                cursor,
                f32.add(f32.load(cursor, 16 * i + 4 * lane), f32x4.lane(s, lane)),
                16 * i + 4 * lane,
              ),
            ),
          );
      },
    );
  });
}

const FLOOR = 1e-12;

export const l2NormalizeGradientKernel = kernel({
  name: 'training_l2_normalize_gradient',
  fields: { x: 'i32', dy: 'i32', y: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, dy, y, x0, dy0] = f.localArray('i32', 6);
    const [inverse, along] = f.localArray('v128', 2);
    f.for(row, begin, end, 1, () => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(x0, i32.add(at.x, step));
      f.set(dy0, i32.add(at.dy, step));
      const norm = f.local('v128');
      f.set(norm, f32x4.sqrt(sum(f, at.columns, [[x, x0]], (v) => f32x4.mul(v, v))));
      f.set(inverse, f32x4.div(v128.f32x4(1), f32x4.max(norm, v128.f32x4(FLOOR))));
      f.set(
        along,
        sum(
          f,
          at.columns,
          [
            [x, x0],
            [dy, dy0],
          ],
          (v, d) => f32x4.mul(f32x4.mul(v, inverse), d),
        ),
      );
      // A row as short as the floor is divided by a constant.
      f.set(along, v128.and(along, f32x4.gt(norm, v128.f32x4(FLOOR))));
      f.set(x, x0);
      f.set(dy, dy0);
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, dy, y], 1, (lanes) =>
        lanes.store(
          y,
          f32x4.mul(f32x4.sub(lanes.load(dy), f32x4.mul(f32x4.mul(lanes.load(x), inverse), along)), inverse),
        ),
      );
    });
  },
});

export const softmaxGradientKernel = kernel({
  name: 'training_softmax_gradient',
  fields: { x: 'i32', dy: 'i32', y: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, dy, y, x0, dy0] = f.localArray('i32', 6);
    f.for(row, begin, end, 1, () => {
      const step = i32.mul(row, times(at.columns, 4));
      f.set(x0, i32.add(at.x, step));
      f.set(dy0, i32.add(at.dy, step));
      const mean = sum(
        f,
        at.columns,
        [
          [x, x0],
          [dy, dy0],
        ],
        f32x4.mul,
      );
      f.set(x, x0);
      f.set(dy, dy0);
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, dy, y], 1, (lanes) =>
        lanes.store(y, f32x4.mul(lanes.load(x), f32x4.sub(lanes.load(dy), mean))),
      );
    });
  },
});
