import type { FunctionBuilder } from '../../assembler.ts';
import { f32x4, i32, i32x4, type V128, v128 } from '../../instructions.ts';

/** Natural logarithm of positive normal numbers: 2·artanh((m − 1)/(m + 1)) + e·ln 2 with m from √½ to √2. */
export function log(f: FunctionBuilder, x: V128): V128 {
  const bits = f.local('v128', i32x4.sub(x, v128.i32x4(0x3f3504f3)));
  const exponent = f.local('v128', i32x4.shr_s(bits, i32.const(23)));
  const m = f.local('v128', i32x4.sub(x, i32x4.shl(exponent, i32.const(23))));
  const one = v128.f32x4(1);
  const s = f.local('v128', f32x4.div(f32x4.sub(m, one), f32x4.add(m, one)));
  const z = f.local('v128', f32x4.mul(s, s));
  const series = [1 / 9, 1 / 7, 1 / 5, 1 / 3, 1]
    .map((c) => v128.f32x4(2 * c))
    .reduce((sum, c) => f32x4.add(f32x4.mul(sum, z), c));
  return f32x4.add(f32x4.mul(s, series), f32x4.mul(f32x4.convert_i32x4_s(exponent), v128.f32x4(Math.LN2)));
}
