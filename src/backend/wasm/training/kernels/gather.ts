import type { Pooling } from '../../../../program/ops/pool.ts';
import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, splat, times } from '../../kernels/kernel.ts';
import { existing } from '../../kernels/product.ts';

/** Columns of one unit of a scatter: a row of a table is touched by one thread at a time. */
export const SCATTER_COLUMNS = 32;

/**
 * `table[index(r)] += factor · dy[r]`, in the order of r: index(r) is indices[r], or without them (r mod N) mod rows. A
 * unit is 32 columns.
 */
export const scatterRowsKernel = kernel({
  name: 'training_scatter_rows',
  fields: {
    dy: 'i32',
    indices: 'i32',
    table: 'i32',
    count: 'i32',
    N: 'i32',
    rows: 'i32',
    columns: 'i32',
    factor: 'f32',
  },
  build(_context, f, at, begin, end) {
    const [unit, r, index, column, width, from, to] = f.localArray('i32', 7);
    const factor = f.local('v128', splat(at.factor));
    f.for(unit, begin, end, 1, () => {
      f.set(column, times(unit, SCATTER_COLUMNS));
      f.set(width, i32.min_s(i32.const(SCATTER_COLUMNS), i32.sub(at.columns, column)));
      f.for(r, i32.const(0), at.count, 1, () => {
        f.if(
          at.indices,
          () => f.set(index, i32.load(i32.add(at.indices, times(r, 4)))),
          () => f.set(index, i32.rem_u(i32.rem_u(r, at.N), at.rows)),
        );
        f.set(from, i32.add(at.dy, times(i32.add(i32.mul(r, at.columns), column), 4)));
        f.set(to, i32.add(at.table, times(i32.add(i32.mul(index, at.columns), column), 4)));
        eachVector(f, width, [from, to], 1, (lanes) =>
          lanes.store(to, f32x4.add(lanes.load(to), f32x4.mul(lanes.load(from), factor))),
        );
      });
    });
  },
});

/** A unit is one sequence. */
export const poolGradientKernel = (pooling: Pooling) =>
  kernel({
    name: `training_pool_${pooling}_gradient`,
    fields: { x: 'i32', lengths: 'i32', dy: 'i32', y: 'i32', N: 'i32', columns: 'i32' },
    build(_context, f, at, begin, end) {
      const [b, n, rows, x, y, dy, best, c] = f.localArray('i32', 8);
      const factor = f.local('v128');
      const bytes = times(at.columns, 4);
      f.for(b, begin, end, 1, () => {
        f.set(rows, existing(at.lengths, b, at.N));
        if (pooling === 'first') f.set(rows, i32.min_s(rows, i32.const(1)));
        const count = f32x4.max(splat(f32.convert_i32_s(rows)), v128.f32x4(1));
        f.set(factor, f32x4.div(v128.f32x4(1), pooling === 'sqrtMean' ? f32x4.sqrt(count) : count));
        if (pooling === 'max') f.set(rows, i32.const(0));
        f.for(n, i32.const(0), at.N, 1, () => {
          f.set(y, i32.add(at.y, i32.mul(i32.add(i32.mul(b, at.N), n), bytes)));
          f.set(dy, i32.add(at.dy, i32.mul(b, bytes)));
          f.if(i32.ge_s(n, rows), () => f.set(factor, v128.zero));
          eachVector(f, at.columns, [y, dy], 1, (lanes) => lanes.store(y, f32x4.mul(lanes.load(dy), factor)));
        });
        if (pooling !== 'max') return;
        f.set(rows, existing(at.lengths, b, at.N));
        f.if(i32.gt_s(rows, i32.const(0)), () =>
          f.for(c, i32.const(0), at.columns, 1, () => {
            f.set(x, i32.add(at.x, i32.add(i32.mul(i32.mul(b, at.N), bytes), times(c, 4))));
            f.set(best, x);
            f.for(n, i32.const(1), rows, 1, () => {
              f.set(x, i32.add(x, bytes));
              f.if(f32Gt(x, best), () => f.set(best, x));
            });
            const d = f32.load(i32.add(at.dy, i32.add(i32.mul(b, bytes), times(c, 4))));
            f.emit(f32.store(i32.add(at.y, i32.sub(best, at.x)), d));
          }),
        );
      });
    },
  });

/** Whether the float at `a` is greater than that at `b`. */
const f32Gt = (a: Parameters<typeof v128.load32_splat>[0], b: typeof a) =>
  v128.any_true(f32x4.gt(v128.load32_splat(a), v128.load32_splat(b)));

/** dx[b, rows[b, p]] += dy[b, p], from zeros. A unit is one sequence. */
export const selectRowsGradientKernel = kernel({
  name: 'training_select_rows_gradient',
  fields: { dy: 'i32', rows: 'i32', y: 'i32', N: 'i32', P: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [b, p, from, to, count] = f.localArray('i32', 5);
    const bytes = times(at.columns, 4);
    f.for(b, begin, end, 1, () => {
      f.set(to, i32.add(at.y, i32.mul(i32.mul(b, at.N), bytes)));
      f.set(count, i32.mul(at.N, at.columns));
      eachVector(f, count, [to], 1, (lanes) => lanes.store(to, v128.zero));
      f.for(p, i32.mul(b, at.P), i32.mul(i32.add(b, i32.const(1)), at.P), 1, () => {
        const row = i32.add(i32.mul(b, at.N), i32.load(i32.add(at.rows, times(p, 4))));
        f.set(to, i32.add(at.y, i32.mul(row, bytes)));
        f.set(from, i32.add(at.dy, i32.mul(p, bytes)));
        eachVector(f, at.columns, [from, to], 1, (lanes) =>
          lanes.store(to, f32x4.add(lanes.load(to), lanes.load(from))),
        );
      });
    });
  },
});
