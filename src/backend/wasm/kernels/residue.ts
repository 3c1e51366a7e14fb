import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, i32, v128 } from '../instructions.ts';
import { kernel, plus, times } from './kernel.ts';

/** Copies `bytes`, a multiple of 4, and moves both cursors past them. */
function copy(f: FunctionBuilder, from: Variable<'i32'>, to: Variable<'i32'>, bytes: Variable<'i32'>): void {
  const left = f.local('i32', bytes);
  f.while(
    () => i32.ge_s(left, i32.const(16)),
    () => {
      f.emit(v128.store(to, v128.load(from)));
      f.increment(from, 16);
      f.increment(to, 16);
      f.increment(left, -16);
    },
  );
  f.while(
    () => left,
    () => {
      f.emit(f32.store(to, f32.load(from)));
      f.increment(from, 4);
      f.increment(to, 4);
      f.increment(left, -4);
    },
  );
}

/** Rows of a class next to each other, or back in their places. A unit of work is one class of one sequence. */
export const residueKernel = (direction: 'group' | 'ungroup') =>
  kernel({
    name: `residue_${direction}`,
    /** Tokens, rows of a class, bytes of a row. */
    fields: { x: 'i32', y: 'i32', stride: 'i32', N: 'i32', M: 'i32', width: 'i32' },
    build(_context, f, at, begin, end) {
      const [unit, sequence, token, last, apart, together, i] = f.localArray('i32', 7);
      const [plain, classes] = direction === 'group' ? [at.x, at.y] : [at.y, at.x];
      f.for(unit, begin, end, 1, () => {
        f.set(sequence, i32.div_u(unit, at.stride));
        f.set(token, i32.rem_u(unit, at.stride));
        f.set(together, i32.add(classes, i32.mul(i32.mul(unit, at.M), at.width)));
        f.set(last, i32.add(together, i32.mul(at.M, at.width)));
        f.while(
          () => i32.lt_u(token, at.N),
          () => {
            f.set(apart, i32.add(plain, i32.mul(i32.add(i32.mul(sequence, at.N), token), at.width)));
            if (direction === 'group') copy(f, apart, together, at.width);
            else copy(f, together, apart, at.width);
            f.increment(token, at.stride);
          },
        );
        if (direction === 'group') f.for(i, together, last, 4, () => f.emit(f32.store(i, f32.const(0))));
      });
    },
  });

/** Tokens of each class: ⌈(length − class) / stride⌉, at least 0. A unit of work is one sequence. */
export const residueLengthsKernel = kernel({
  name: 'residue_lengths',
  fields: { lengths: 'i32', out: 'i32', stride: 'i32', N: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, length, c, to] = f.localArray('i32', 4);
    f.for(unit, begin, end, 1, () => {
      f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(unit, 4))), at.N));
      f.for(c, i32.const(0), at.stride, 1, () => {
        f.set(to, i32.add(at.out, times(i32.add(i32.mul(unit, at.stride), c), 4)));
        f.emit(i32.store(to, i32.const(0)));
        f.if(i32.gt_s(length, c), () =>
          f.emit(i32.store(to, i32.div_u(plus(i32.add(i32.sub(length, c), at.stride), -1), at.stride))),
        );
      });
    });
  },
});
