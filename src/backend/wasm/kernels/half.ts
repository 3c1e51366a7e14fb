import type { FunctionBuilder } from '../assembler.ts';
import { f32x4, i32, i32x4, type V128, v128 } from '../instructions.ts';

/** Four binary16 numbers, one in the lower half of each lane, as float32; infinities and NaN included. */
export function widenHalf(f: FunctionBuilder, h: V128): V128 {
  const magnitude = f.local('v128', v128.and(h, v128.i32x4(0x7fff)));
  // Times 2^112 moves the exponent's bias, and makes normal numbers of subnormal ones.
  const moved = f32x4.mul(i32x4.shl(magnitude, i32.const(13)), v128.f32x4(2 ** 112));
  const special = v128.and(i32x4.gt_s(magnitude, v128.i32x4(0x7bff)), v128.i32x4(0x7f800000));
  const sign = i32x4.shl(v128.and(h, v128.i32x4(0x8000)), i32.const(16));
  return v128.or(v128.or(moved, special), sign);
}
