import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32, i32x4, table, type V128, v128 } from '../instructions.ts';
import { i64x2 } from './integer-instructions.ts';

const SIMD = 0xfd;
const one = ['v128'] as const;
const two = ['v128', 'v128'] as const;

/** Arithmetic in float64, two lanes: what codecs reckon in. */
export const f64x2 = {
  ...table(one, 'v128', SIMD, {
    abs: 236,
    floor: 117,
    nearest: 148,
    promote_low_f32x4: 95,
    demote_zero: 94,
    convert_low_i32x4_s: 254,
  }),
  ...table(two, 'v128', SIMD, { add: 240, sub: 241, mul: 242, div: 243, min: 244, max: 245, lt: 73, gt: 74 }),
  const: (x: number): V128 => v128.const(new Uint8Array(new Float64Array([x, x]).buffer)),
};

/** A whole number in both lanes. */
export const wholeDouble = (n: I32): V128 => f64x2.convert_low_i32x4_s(i32x4.splat(n));

/** The first lane as float32, in all four lanes. */
export function demoteSplat(f: FunctionBuilder, x: V128): V128 {
  const y = f.local('v128', f64x2.demote_zero(x));
  return v128.shuffle(y, y, FIRST);
}

const FIRST = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3];

/** ⌊x + ½⌋, as `Math.round` has it for quotients of two float32. */
export const roundUp = (x: V128): V128 => f64x2.floor(f64x2.add(x, f64x2.const(0.5)));

/** `roundFloat16` of lanes ≥ 0 below 65520: nearest, halves to even, subnormals included. */
export function roundHalf(f: FunctionBuilder, x: Variable<'v128'>): V128 {
  const normal = f.local('v128');
  // 42 of the 52 bits of the fraction go: half of the last one that stays is added, less one where that is even.
  const odd = v128.and(i64x2.shr_u(x, i32.const(42)), i64x2.one);
  const half = v128.i32x4(-1, 0x1ff, -1, 0x1ff);
  f.set(normal, i64x2.add(i64x2.add(x, half), odd));
  f.set(normal, v128.and(normal, v128.i32x4(0, -1024, 0, -1024)));
  const small = f64x2.mul(f64x2.nearest(f64x2.mul(x, f64x2.const(2 ** 24))), f64x2.const(2 ** -24));
  return v128.bitselect(small, normal, f64x2.lt(x, f64x2.const(2 ** -14)));
}
