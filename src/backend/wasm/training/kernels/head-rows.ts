import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, reduce, times } from '../../kernels/kernel.ts';
import { existing } from '../../kernels/product.ts';

/** `y = part + soFar` for heads from `first` on, `soFar` or 0 elsewhere; in floats of one head. A unit is one head. */
export const addHeadsKernel = kernel({
  name: 'training_add_heads',
  fields: { part: 'i32', soFar: 'i32', y: 'i32', from: 'i32', heads: 'i32', size: 'i32' },
  build(_context, f, at, begin, end) {
    const [head, part, before, y] = f.localArray('i32', 4);
    f.for(head, begin, end, 1, () => {
      const bytes = times(at.size, 4);
      f.set(y, i32.add(at.y, i32.mul(head, bytes)));
      f.set(before, i32.add(at.soFar, i32.mul(head, bytes)));
      f.set(part, i32.sub(head, at.from));
      const inside = i32.lt_u(part, at.heads);
      f.if(
        inside,
        () => {
          f.set(part, i32.add(at.part, i32.mul(part, bytes)));
          f.if(
            at.soFar,
            () =>
              eachVector(f, at.size, [part, before, y], 1, (lanes) =>
                lanes.store(y, f32x4.add(lanes.load(part), lanes.load(before))),
              ),
            () => eachVector(f, at.size, [part, y], 1, (lanes) => lanes.store(y, lanes.load(part))),
          );
        },
        () =>
          f.if(
            at.soFar,
            () => eachVector(f, at.size, [before, y], 1, (lanes) => lanes.store(y, lanes.load(before))),
            () => eachVector(f, at.size, [y], 1, (lanes) => lanes.store(y, v128.zero)),
          ),
      );
    });
  },
});

/** Rows from the lengths on are 0. A unit is one head of one sequence. */
export const maskRowsKernel = kernel({
  name: 'training_mask_rows',
  fields: { x: 'i32', y: 'i32', lengths: 'i32', B: 'i32', N: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, rows, x, y, count] = f.localArray('i32', 5);
    f.for(unit, begin, end, 1, () => {
      f.set(rows, existing(at.lengths, i32.rem_u(unit, at.B), at.N));
      const offset = times(i32.mul(i32.mul(unit, at.N), at.columns), 4);
      f.set(x, i32.add(at.x, offset));
      f.set(y, i32.add(at.y, offset));
      f.set(count, i32.mul(rows, at.columns));
      eachVector(f, count, [x, y], 1, (lanes) => lanes.store(y, lanes.load(x)));
      f.set(y, i32.add(at.y, i32.add(offset, times(count, 4))));
      f.set(count, i32.mul(i32.sub(at.N, rows), at.columns));
      eachVector(f, count, [y], 1, (lanes) => lanes.store(y, v128.zero));
    });
  },
});

/** Rows of `from` columns as rows of `to`: `size` columns are copied, then `one` where it is not 0, then zeros. */
export const resizeRowsKernel = kernel({
  name: 'training_resize_rows',
  fields: { x: 'i32', y: 'i32', from: 'i32', to: 'i32', size: 'i32', one: 'f32' },
  build(_context, f, at, begin, end) {
    const [row, x, y, left] = f.localArray('i32', 4);
    f.for(row, begin, end, 1, () => {
      f.set(x, i32.add(at.x, times(i32.mul(row, at.from), 4)));
      f.set(y, i32.add(at.y, times(i32.mul(row, at.to), 4)));
      f.set(left, at.to);
      eachVector(f, left, [y], 1, (lanes) => lanes.store(y, v128.zero));
      f.set(y, i32.add(at.y, times(i32.mul(row, at.to), 4)));
      eachVector(f, at.size, [x, y], 1, (lanes) => lanes.store(y, lanes.load(x)));
      f.set(y, i32.add(at.y, times(i32.add(i32.mul(row, at.to), at.size), 4)));
      f.if(i32.lt_u(at.size, at.to), () => f.emit(f32.store(y, at.one)));
    });
  },
});

const DIVIDE = {
  x: 'i32',
  o: 'i32',
  dy: 'i32',
  dx: 'i32',
  rows: 'i32',
  H: 'i32',
  D: 'i32',
  W: 'i32',
} as const;

/** `o = x[:D] / x[D]`, by head to side by side; its gradient where `gradient`. A unit is one row of one head. */
export const divideByLastKernel = (gradient: boolean) =>
  kernel({
    name: `training_divide_by_last${gradient ? '_gradient' : ''}`,
    fields: DIVIDE,
    build(_context, f, at, begin, end) {
      const [unit, x, o, dy, dx, left] = f.localArray('i32', 6);
      const [inverse, last] = f.localArray('v128', 2);
      const sums = f.localArray('v128', 1);
      f.for(unit, begin, end, 1, () => {
        const byHead = times(i32.mul(unit, at.W), 4);
        const joined = times(
          i32.mul(i32.add(i32.mul(i32.rem_u(unit, at.rows), at.H), i32.div_u(unit, at.rows)), at.D),
          4,
        );
        f.set(x, i32.add(at.x, byHead));
        f.set(last, v128.load32_splat(i32.add(x, times(at.D, 4))));
        f.set(inverse, v128.andnot(f32x4.div(v128.f32x4(1), last), f32x4.eq(last, v128.zero)));
        f.set(o, i32.add(at.o, joined));
        if (!gradient) {
          eachVector(f, at.D, [x, o], 1, (lanes) => lanes.store(o, f32x4.mul(lanes.load(x), inverse)));
          return;
        }
        f.set(dy, i32.add(at.dy, joined));
        f.set(dx, i32.add(at.dx, byHead));
        f.set(left, at.W);
        eachVector(f, left, [dx], 1, (lanes) => lanes.store(dx, v128.zero));
        f.set(dx, i32.add(at.dx, byHead));
        f.set(sums[0], v128.zero);
        eachVector(f, at.D, [o, dy, dx], 1, (lanes) => {
          const d = f.local('v128', f32x4.mul(lanes.load(dy), inverse));
          lanes.store(dx, d);
          f.set(sums[0], f32x4.sub(sums[0], lanes.keep(f32x4.mul(d, lanes.load(o)))));
        });
        reduce(f, sums, f32x4.add);
        f.set(dx, i32.add(at.dx, i32.add(byHead, times(at.D, 4))));
        f.emit(v128.store32_lane(dx, sums[0], 0));
      });
    },
  });
