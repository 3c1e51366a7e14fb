import type { StraightThrough } from '../../../../program/gradient/fake-quantize.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, type Features, kernel, reduce, splat, times } from '../../kernels/kernel.ts';
import { ROUNDING } from '../../kernels/math.ts';

const levelsOf = ({ dot }: Features): number => (dot === 'u7' ? 128 : 256);
const LEAST_SCALE = 1e-30;

/** Scale, its reciprocal and the zero point of a range, as `rowQuantization` has them. */
function quantization(f: FunctionBuilder, features: Features) {
  const [scale, inverse, zero] = f.localArray('v128', 3);
  return {
    scale,
    inverse,
    zero,
    set(low: V128, high: V128): void {
      const steps = v128.f32x4(levelsOf(features) - 1);
      f.set(scale, f32x4.max(f32x4.div(f32x4.sub(high, low), steps), v128.f32x4(LEAST_SCALE)));
      f.set(inverse, f32x4.div(v128.f32x4(1), scale));
      const raw = f32x4.nearest(f32x4.mul(f32x4.sub(v128.zero, low), inverse));
      f.set(zero, f32x4.max(f32x4.min(raw, steps), v128.zero));
    },
  };
}

/** The two ends of a range that is given, widened to hold 0. */
const endsOf = (range: Variable<'i32'>): [V128, V128] => [
  f32x4.pmin(v128.zero, v128.load32_splat(range)),
  f32x4.pmax(v128.zero, v128.load32_splat(range, 4)),
];

/** See `fakeQuantizeRows`; a unit is one row. */
export const fakeQuantizeRowsKernel = (given: boolean) =>
  kernel({
    name: `fake_quantize_rows_${given}`,
    fields: { x: 'i32', y: 'i32', columns: 'i32', range: 'i32' },
    build({ features }, f, at, begin, end) {
      const [row, x, y, step] = f.localArray('i32', 4);
      const [low, high, code] = f.localArray('v128', 3);
      const q = quantization(f, features);
      if (given) q.set(...endsOf(at.range));
      f.for(row, begin, end, 1, () => {
        f.set(step, i32.mul(row, times(at.columns, 4)));
        if (!given) {
          f.set(low, v128.zero);
          f.set(high, v128.zero);
          f.set(x, i32.add(at.x, step));
          eachVector(f, at.columns, [x], 1, (lanes) => {
            const v = f.local('v128', lanes.load(x));
            f.set(low, f32x4.pmin(v, low));
            f.set(high, f32x4.pmax(v, high));
          });
          q.set(reduce(f, [low], f32x4.min), reduce(f, [high], f32x4.max));
        }
        f.set(x, i32.add(at.x, step));
        f.set(y, i32.add(at.y, step));
        const magic = f.local('v128', f32x4.add(q.zero, v128.f32x4(ROUNDING)));
        eachVector(f, at.columns, [x, y], 1, (lanes) => {
          f.set(code, f32x4.add(f32x4.mul(lanes.load(x), q.inverse), magic));
          f.set(code, f32x4.sub(code, v128.f32x4(ROUNDING)));
          f.set(code, f32x4.pmax(f32x4.pmin(code, v128.f32x4(levelsOf(features) - 1)), v128.zero));
          lanes.store(y, f32x4.mul(f32x4.sub(code, q.zero), q.scale));
        });
      });
    },
  });

/** See `fakeBinarize`; a unit is one row. */
export const fakeBinarizeKernel = kernel({
  name: 'fake_binarize',
  fields: { x: 'i32', y: 'i32', columns: 'i32', range: 'i32' },
  build(_context, f, at, begin, end) {
    const [row, x, y, step] = f.localArray('i32', 4);
    const alpha = f.local('v128', v128.load32_splat(at.range));
    const beta = f.local('v128', v128.load32_splat(at.range, 4));
    const negative = f.local('v128', f32x4.sub(v128.zero, alpha));
    f.for(row, begin, end, 1, () => {
      f.set(step, i32.mul(row, times(at.columns, 4)));
      f.set(x, i32.add(at.x, step));
      f.set(y, i32.add(at.y, step));
      eachVector(f, at.columns, [x, y], 1, (lanes) =>
        lanes.store(y, v128.bitselect(alpha, negative, f32x4.ge(lanes.load(x), beta))),
      );
    });
  },
});

/** See `straightThroughGradient`; a unit is one row. */
export const straightThroughKernel = (estimate: StraightThrough) =>
  kernel({
    name: `straight_through_${estimate}`,
    fields: { x: 'i32', dy: 'i32', y: 'i32', ends: 'i32', range: 'i32', columns: 'i32' },
    build({ features }, f, at, begin, end) {
      const steps = levelsOf(features) - 1;
      const [row, x, dy, y, to, step] = f.localArray('i32', 6);
      const [u, d, inside, first, second, factor, off] = f.localArray('v128', 7);
      const q = quantization(f, features);
      if (estimate === 'range') {
        q.set(...endsOf(at.range));
        const columns = f32.mul(f32.convert_i32_s(at.columns), f32.const(steps));
        f.set(factor, f32x4.div(v128.f32x4(1), f32x4.sqrt(splat(columns))));
      }
      const alpha = f.local('v128', v128.load32_splat(at.range));
      const beta = f.local('v128', v128.load32_splat(at.range, 4));
      const one = v128.f32x4(1);
      f.for(row, begin, end, 1, () => {
        f.set(step, i32.mul(row, times(at.columns, 4)));
        f.set(x, i32.add(at.x, step));
        f.set(dy, i32.add(at.dy, step));
        f.set(y, i32.add(at.y, step));
        f.set(first, v128.zero);
        f.set(second, v128.zero);
        eachVector(f, at.columns, [x, dy, y], 1, (lanes) => {
          f.set(d, lanes.load(dy));
          if (estimate === 'sign') {
            f.set(u, f32x4.sub(lanes.load(x), beta));
            f.set(inside, v128.and(d, f32x4.le(f32x4.abs(u), alpha)));
            const sign = v128.bitselect(one, v128.f32x4(-1), f32x4.ge(lanes.load(x), beta));
            f.set(first, f32x4.add(first, lanes.keep(f32x4.mul(d, sign))));
            f.set(second, f32x4.sub(second, lanes.keep(inside)));
          } else {
            f.set(u, f32x4.add(f32x4.mul(lanes.load(x), q.inverse), q.zero));
            const [below, above] = [f32x4.le(u, v128.zero), f32x4.ge(u, v128.f32x4(steps))].map((m) =>
              f.local('v128', m),
            );
            f.set(inside, v128.andnot(d, v128.or(below, above)));
            const rounded = f32x4.sub(f32x4.add(u, v128.f32x4(ROUNDING)), v128.f32x4(ROUNDING));
            f.set(off, f32x4.mul(inside, f32x4.mul(f32x4.sub(rounded, u), v128.f32x4(1 / steps))));
            f.set(first, f32x4.add(first, lanes.keep(f32x4.sub(v128.and(d, below), off))));
            f.set(second, f32x4.add(second, lanes.keep(f32x4.add(v128.and(d, above), off))));
          }
          lanes.store(y, inside);
        });
        reduce(f, [first], f32x4.add);
        reduce(f, [second], f32x4.add);
        if (estimate === 'range') {
          f.set(first, f32x4.mul(first, factor));
          f.set(second, f32x4.mul(second, factor));
        }
        f.set(to, i32.add(at.ends, times(row, 8)));
        f.emit(v128.store32_lane(to, first, 0));
        f.emit(v128.store32_lane(to, second, 0, 4));
      });
    },
  });
