import { f32, f32x4, i8x16, i16x8, i32, v128 } from '../instructions.ts';
import { kernel, plus, splat, times } from './kernel.ts';

/** Sixteen bits a step: 1 where x ≥ β, 0 past the row. `range` is the address of [α, β]; a unit is one row. */
export const quantizeBinaryKernel = kernel({
  name: 'quantize_binary',
  fields: { x: 'i32', bits: 'i32', scales: 'i32', range: 'i32', columns: 'i32', pitch: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, out, left, last] = f.localArray('i32', 5);
    const alpha = f.local('f32', f32.load(at.range));
    const beta = f.local('v128', splat(f32.load(at.range, 4)));
    const above = (i: number) => f32x4.ge(v128.load(x, 16 * i), beta);
    f.for(row, begin, end, 1, () => {
      f.set(x, i32.add(at.x, i32.mul(row, times(at.columns, 4))));
      f.set(out, i32.add(at.bits, i32.mul(row, at.pitch)));
      f.set(last, i32.add(out, at.pitch));
      f.emit(f32.store(i32.add(at.scales, times(row, 8)), alpha));
      f.emit(f32.store(i32.add(at.scales, times(row, 8)), f32.const(0), 4));
      f.set(left, at.columns);
      f.while(
        () => i32.gt_s(left, i32.const(0)),
        () => {
          const bits = i8x16.bitmask(
            i8x16.narrow_i16x8_s(
              i16x8.narrow_i32x4_s(above(0), above(1)),
              i16x8.narrow_i32x4_s(above(2), above(3)),
            ),
          );
          const inside = i32.sub(i32.shl(i32.const(1), i32.min_s(left, i32.const(16))), i32.const(1));
          f.emit(i32.store16(out, i32.and(bits, inside)));
          f.increment(x, 64);
          f.increment(out, 2);
          f.increment(left, -16);
        },
      );
      f.while(
        () => i32.lt_u(out, last),
        () => {
          f.emit(i32.store16(out, i32.const(0)));
          f.set(out, plus(out, 2));
        },
      );
    });
  },
});
