import type { RotaryLayout } from '../../../program/ops/rotary.ts';
import { f32x4, i32, type V128, v128 } from '../instructions.ts';
import { kernel, multiplyAdd } from './kernel.ts';

const SWAP_NEIGHBOURS = [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11];

/** Floats of one position in the table: two runs of equal length, factors of a column and of the one it turns with. */
export const rotaryRun = (size: number, layout: RotaryLayout): number =>
  ((layout === 'halves' ? size / 2 : size) + 3) & ~3;

/**
 * Turns rows of `size` columns. A unit is one row of one head; the table's factors are 0 behind the last column, so
 * that whole vectors leave zeros there.
 */
export const rotaryKernel = (size: number, layout: RotaryLayout) => {
  const pitch = (size + 7) & ~7;
  const run = rotaryRun(size, layout) * 4;
  return kernel({
    name: `rotary_${layout}_${size}`,
    fields: { x: 'i32', y: 'i32', table: 'i32', N: 'i32' },
    build({ features }, f, at, begin, end) {
      const madd = multiplyAdd(features);
      const [row, x, y, factors] = f.localArray('i32', 4);
      const at4 = (offset: number): V128 => v128.load(x, offset);
      f.for(row, begin, end, 1, () => {
        f.set(x, i32.add(at.x, i32.mul(row, i32.const(pitch * 4))));
        f.set(y, i32.add(at.y, i32.mul(row, i32.const(pitch * 4))));
        f.set(factors, i32.add(at.table, i32.mul(i32.rem_u(row, at.N), i32.const(2 * run))));
        for (let c = 0; c < pitch * 4; c += 16) if (c + 16 > size * 4) f.emit(v128.store(y, v128.zero, c));
        if (layout === 'pairs')
          for (let c = 0; c < run; c += 16) {
            const a = f.local('v128', at4(c));
            const b = f32x4.mul(v128.shuffle(a, a, SWAP_NEIGHBOURS), v128.load(factors, run + c));
            f.emit(v128.store(y, madd(a, v128.load(factors, c), b), c));
          }
        else {
          const half = size * 2;
          // The first half's last vector may reach into the second, which is written after it.
          for (const second of [false, true])
            for (let c = 0; c < run; c += 16) {
              const [own, other] = second ? [half + c, c] : [c, half + c];
              const turned = f32x4.mul(at4(other), v128.load(factors, run + c));
              const kept = f32x4.mul(at4(own), v128.load(factors, c));
              f.emit(v128.store(y, second ? f32x4.add(kept, turned) : f32x4.sub(kept, turned), own));
            }
        }
      });
    },
  });
};
