import { i32 } from '../instructions.ts';
import { kernel, plus, times } from './kernel.ts';
import { clear, existing, productFunction } from './product.ts';

/** Rows of a sequence that stay in the first cache level while all of the matrix's rows pass over them. */
const DEPTH = 256;

/** `y = E · x` for each head and sequence, over the rows that exist. A unit is one head of one sequence. */
export const projectRowsKernel = (pitch: number) =>
  kernel({
    name: `project_rows_${pitch}`,
    fields: {
      /** Matrix, and bytes from one of its sets to the next. */
      e: 'i32',
      set: 'i32',
      sets: 'i32',
      /** Rows `[G, B, N, pitch]` and `[G, B, r, pitch]`. */
      x: 'i32',
      y: 'i32',
      lengths: 'i32',
      heads: 'i32',
      B: 'i32',
      N: 'i32',
      r: 'i32',
      columns: 'i32',
    },
    build(context, f, at, begin, end) {
      const product = productFunction(context, 'project_rows', pitch);
      const [unit, n, e, x, y, k, i] = f.localArray('i32', 7);
      const outBytes = f.local('i32', i32.mul(at.r, i32.const(pitch * 4)));
      f.for(unit, begin, end, 1, () => {
        f.set(n, existing(at.lengths, i32.rem_u(unit, at.B), at.N));
        const set = i32.div_u(i32.mul(i32.div_u(unit, at.B), at.sets), at.heads);
        f.set(e, i32.add(at.e, i32.mul(set, at.set)));
        f.set(x, i32.add(at.x, i32.mul(i32.mul(unit, at.N), i32.const(pitch * 4))));
        f.set(y, i32.add(at.y, i32.mul(unit, outBytes)));
        clear(f, i, y, outBytes);
        f.for(k, i32.const(0), n, DEPTH, () =>
          f.call(
            product,
            i32.add(e, times(k, 4)),
            times(at.columns, 4),
            i32.add(x, i32.mul(k, i32.const(pitch * 4))),
            y,
            times(i32.min_s(i32.const(DEPTH), i32.sub(n, k)), 4),
            at.r,
          ),
        );
      });
    },
  });

/** Rows of the matrix that see a token of each sequence, looked for from the last one down. A unit is a sequence. */
export const countRowsKernel = kernel({
  name: 'count_rows',
  fields: {
    e: 'i32',
    set: 'i32',
    sets: 'i32',
    counts: 'i32',
    lengths: 'i32',
    N: 'i32',
    r: 'i32',
    columns: 'i32',
  },
  build(_context, f, at, begin, end) {
    const [unit, n, row, s, k, last, found] = f.localArray('i32', 7);
    f.for(unit, begin, end, 1, () => {
      f.set(n, existing(at.lengths, unit, at.N));
      f.set(found, i32.const(0));
      f.set(row, at.r);
      f.while(
        () => i32.and(i32.eqz(found), i32.gt_s(row, i32.const(0))),
        () => {
          f.increment(row, -1);
          f.for(s, i32.const(0), at.sets, 1, () => {
            f.set(k, i32.add(i32.add(at.e, i32.mul(s, at.set)), times(i32.mul(row, at.columns), 4)));
            f.set(last, i32.add(k, times(n, 4)));
            f.while(
              () => i32.and(i32.eqz(found), i32.lt_u(k, last)),
              () => {
                // Both zeros lose their sign here.
                f.if(i32.shl(i32.load(k), i32.const(1)), () => f.set(found, plus(row, 1)));
                f.increment(k, 4);
              },
            );
          });
        },
      );
      f.emit(i32.store(i32.add(at.counts, times(unit, 4)), found));
    });
  },
});
