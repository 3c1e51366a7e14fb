import type { FunctionBuilder } from '../assembler.ts';
import { i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Features, ONES_AT } from './kernel.ts';

/** `c + w · a` over the depth that one vector of weights spans. */
export function integerDot(f: FunctionBuilder, { dot }: Features): (w: V128, a: V128, c: V128) => V128 {
  if (dot === 'i16') return (w, a, c) => i32x4.add(c, i32x4.dot_i16x8_s(a, w));
  if (dot !== 'u7') return i32x4.relaxed_dot_i8x16_i7x16_add_s;
  // Without a fused instruction V8 makes the vector of ones anew at each dot: kept in a local, it is one product less.
  const ones = f.local('v128', v128.load(i32.const(ONES_AT)));
  return (w, a, c) => i32x4.add(c, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(w, a), ones));
}

/** `c + w · a` of pairs of bytes, in 16 bits, on an engine whose dot ends there. */
export const pairDot = (w: V128, a: V128, c: V128): V128 =>
  i16x8.add(c, i16x8.relaxed_dot_i8x16_i7x16_s(w, a));

/** Steps of `pairDot` that fit 16 bits, for weights up to a magnitude and inputs of 7 bits. */
export const pairSteps = (magnitude: number): number => Math.floor(32767 / (2 * 127 * magnitude));

/** Sums of pairs in 16 bits as sums of four in 32. */
export function widenPairs(f: FunctionBuilder): (sums: V128) => V128 {
  const ones = f.local('v128', v128.load(i32.const(ONES_AT)));
  return (sums) => i32x4.dot_i16x8_s(sums, ones);
}

/**
 * How many sums a tile keeps for each output, to be added at its end: a fused dot waits for the one before it, so that
 * few outputs alone would leave the units idle.
 */
export function splitsOf({ dot }: Features, outputs: number): 1 | 2 | 4 {
  if (dot === 'i16' || dot === 'u7' || outputs > 6) return 1;
  return outputs > 2 ? 2 : 4;
}
