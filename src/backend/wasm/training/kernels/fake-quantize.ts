import type { FakeQuantizeAttributes } from '../../../../program/ops/fake-quantize.ts';
import { codeFormat, isAffine, scaleTypeOf } from '../../../../tensor/codec.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32x4, type I32, i32, type V128, v128 } from '../../instructions.ts';
import { demoteSplat, f64x2, roundHalf, roundUp, wholeDouble } from '../../kernels/double.ts';
import { eachVector, kernel, reduce, times } from '../../kernels/kernel.ts';

/** Below this a group is zero, as `quantizeGroup` has it. */
const LEAST = 1e-35;

/** Sums of `terms` elements in float64, one after another, as the codecs add them. */
function sumOf(
  f: FunctionBuilder,
  from: I32,
  size: I32,
  sums: readonly Variable<'v128'>[],
  body: (x: Variable<'v128'>) => void,
): void {
  const [at, end] = f.localArray('i32', 2);
  const x = f.local('v128');
  for (const sum of sums) f.set(sum, v128.zero);
  f.set(at, from);
  f.set(end, i32.add(at, times(size, 4)));
  f.while(
    () => i32.lt_u(at, end),
    () => {
      f.set(x, f64x2.abs(f64x2.promote_low_f32x4(v128.load32_splat(at))));
      body(x);
      f.increment(at, 4);
    },
  );
}

/** `decode(encode(w))` of one codec, number by number: see `fakeQuantize`. A unit is a group that shares a scale. */
export function fakeQuantizeKernel({ spec, ternary = 'twn' }: FakeQuantizeAttributes) {
  const { codec } = spec;
  const { low: least, high: steps } = codeFormat(spec);
  const affine = isAffine(spec);
  const byMean = codec === 'binary' || codec === 'ternary';
  const twn = codec === 'ternary' && ternary === 'twn';
  return kernel({
    name: `fake_quantize_${codec}_${affine}_${scaleTypeOf(spec)}_${ternary}`,
    fields: { w: 'i32', y: 'i32', size: 'i32' },
    build(_context, f, at, begin, end) {
      const [unit, w, y, from] = f.localArray('i32', 4);
      const [low, high, sum, above, number, scale, zero, threshold, single] = f.localArray('v128', 9);
      const q = f.localArray('v128', 2);
      const stored = (x: V128): V128 => {
        f.set(number, x);
        return scaleTypeOf(spec) === 'float16'
          ? roundHalf(f, number)
          : f64x2.promote_low_f32x4(demoteSplat(f, number));
      };

      /** The scale, 0 for a group of zeros, and the zero point. */
      const choose = () => {
        f.set(low, v128.zero);
        f.set(high, v128.zero);
        f.set(w, from);
        eachVector(f, at.size, [w], 1, (lanes) => {
          const x = f.local('v128', lanes.load(w));
          f.set(low, f32x4.pmin(low, x));
          f.set(high, f32x4.pmax(high, x));
        });
        reduce(f, [low], f32x4.pmin);
        reduce(f, [high], f32x4.pmax);
        f.set(low, f64x2.promote_low_f32x4(low));
        f.set(high, f64x2.promote_low_f32x4(high));
        const largest = f.local('v128', f64x2.max(f64x2.sub(v128.zero, low), high));
        f.set(zero, v128.zero);
        if (byMean) {
          sumOf(f, from, at.size, [sum], (x) => f.set(sum, f64x2.add(sum, x)));
          f.set(sum, f64x2.div(sum, wholeDouble(at.size)));
        }
        if (twn) {
          f.set(threshold, f64x2.mul(f64x2.const(0.7), sum));
          sumOf(f, from, at.size, [sum, above], (x) => {
            f.set(number, f64x2.gt(x, threshold));
            f.set(sum, f64x2.add(sum, v128.and(x, number)));
            f.set(above, f64x2.add(above, v128.and(number, f64x2.const(1))));
          });
          f.set(sum, f64x2.div(sum, above));
        }
        if (byMean) f.set(scale, stored(sum));
        else if (affine) {
          f.set(scale, stored(f64x2.div(f64x2.sub(high, low), f64x2.const(steps))));
          const raw = roundUp(f64x2.div(f64x2.sub(v128.zero, low), scale));
          f.set(zero, f64x2.max(f64x2.min(raw, f64x2.const(steps)), v128.zero));
        } else f.set(scale, stored(f64x2.div(largest, f64x2.const(steps))));
        f.set(scale, v128.andnot(scale, f64x2.lt(largest, f64x2.const(LEAST))));
        f.set(single, demoteSplat(f, scale));
      };

      /** Two numbers as codes less the zero point, in float64. */
      const codes = (x: V128): V128 => {
        if (twn) {
          f.set(number, x);
          const sign = v128.bitselect(f64x2.const(-1), f64x2.const(1), f64x2.lt(number, v128.zero));
          return v128.and(sign, f64x2.gt(f64x2.abs(number), threshold));
        }
        const code = f64x2.add(roundUp(f64x2.div(x, scale)), zero);
        const ends = [f64x2.const(affine ? least : -steps), f64x2.const(steps)];
        return f64x2.sub(f64x2.max(f64x2.min(code, ends[1]), ends[0]), zero);
      };

      /** A vector of four as its nearest values. */
      const nearest = (x: Variable<'v128'>): V128 => {
        if (codec === 'binary')
          return v128.bitselect(f32x4.sub(v128.zero, single), single, f32x4.lt(x, v128.zero));
        for (let half = 0; half < 2; half++) {
          const pair = half ? v128.shuffle(x, x, UPPER) : x;
          f.set(q[half], f64x2.demote_zero(codes(f64x2.promote_low_f32x4(pair))));
        }
        return f32x4.mul(v128.shuffle(q[0], q[1], LOWER), single);
      };

      f.for(unit, begin, end, 1, () => {
        const step = i32.mul(unit, times(at.size, 4));
        f.set(from, i32.add(at.w, step));
        choose();
        f.set(w, from);
        f.set(y, i32.add(at.y, step));
        f.if(
          v128.any_true(single),
          () =>
            eachVector(f, at.size, [w, y], 1, (lanes) =>
              lanes.store(y, nearest(f.local('v128', lanes.load(w)))),
            ),
          () => eachVector(f, at.size, [y], 1, (lanes) => lanes.store(y, v128.zero)),
        );
      });
    },
  });
}

const UPPER = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];
const LOWER = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
