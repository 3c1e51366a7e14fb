import { table, v128 } from '../instructions.ts';

/** Instructions that only integer arithmetic needs: a page that has none does not download them. */
const SIMD = 0xfd;
const one = ['v128'] as const;
const two = ['v128', 'v128'] as const;
const shifted = ['v128', 'i32'] as const;

export const i64x2 = {
  ...table(two, 'v128', SIMD, { add: 206, extmul_low_i32x4_s: 220, extmul_high_i32x4_s: 221 }),
  ...table(shifted, 'v128', SIMD, { shl: 203, shr_s: 204, shr_u: 205 }),
  one: v128.const([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
};
export const extend = {
  ...table(one, 'v128', SIMD, { low_i8x16_s: 135, high_i8x16_s: 136 }),
};
export const { abs } = table(one, 'v128', SIMD, { abs: 160 });
export const { clz } = table(['i32'] as const, 'i32', null, { clz: 0x67 });
export const { xor } = table(['i32', 'i32'] as const, 'i32', null, { xor: 0x73 });
