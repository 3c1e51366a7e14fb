import { MOST_RAISE, UNIT_BITS } from '../../../program/integer/sqrt.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { clz, extend, i64x2 } from './integer-instructions.ts';
import { plus } from './kernel.ts';

/** The low words of four 64-bit lanes. */
const LOW_WORDS = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];

/** A shift to the right with what it rounds by. */
export interface Rounding {
  readonly shift: I32;
  readonly half: Variable<'v128'>;
}

export const halfOf = (shift: I32): V128 => i64x2.shl(i64x2.one, plus(shift, -1));
export const rounding = (f: FunctionBuilder, shift: I32): Rounding => ({
  shift,
  half: f.local('v128', halfOf(shift)),
});

/** `multiplyShift` of four lanes: `⌊x · m / 2^shift + ½⌋` through 64 bits. */
export function multiplyShift(x: Variable<'v128'>, m: Variable<'v128'>, { shift, half }: Rounding): V128 {
  const product = (of: (a: V128, b: V128) => V128) => i64x2.shr_s(i64x2.add(of(x, m), half), shift);
  return v128.shuffle(product(i64x2.extmul_low_i32x4_s), product(i64x2.extmul_high_i32x4_s), LOW_WORDS);
}

export const clampLanes = (x: V128, low: V128, high: V128): V128 => i32x4.min_s(i32x4.max_s(x, low), high);

/** Four int8 codes from an address as int32 lanes. */
export const loadCodes = (address: I32): V128 =>
  i32x4.extend_low_i16x8_s(extend.low_i8x16_s(v128.load32_zero(address)));

/** Four lanes from −128 to 127 as bytes in the lowest lane. */
export const narrowCodes = (x: Variable<'v128'>): V128 => {
  const words = i16x8.narrow_i32x4_s(x, x);
  return i8x16.narrow_i16x8_s(words, words);
};

/** Stores the first `count` of four codes, at most four. */
export function storeCodes(
  f: FunctionBuilder,
  address: Variable<'i32'>,
  count: I32,
  x: Variable<'v128'>,
): void {
  f.set(x, narrowCodes(x));
  f.if(
    i32.ge_s(count, i32.const(4)),
    () => f.emit(v128.store32_lane(address, x, 0)),
    () => {
      for (let i = 0; i < 3; i++)
        f.if(i32.gt_s(count, i32.const(i)), () =>
          f.emit(i32.store8(plus(address, i), i32.shr_u(i32x4.lane(x, 0), i32.const(8 * i)))),
        );
    },
  );
}

/** Stores the first `count` of four words, at most four. */
export function storeWords(
  f: FunctionBuilder,
  address: Variable<'i32'>,
  count: I32,
  x: Variable<'v128'>,
): void {
  f.if(
    i32.ge_s(count, i32.const(4)),
    () => f.emit(v128.store(address, x)),
    () => {
      for (let i = 0; i < 3; i++)
        f.if(i32.gt_s(count, i32.const(i)), () => f.emit(v128.store32_lane(address, x, i, 4 * i)));
    },
  );
}

const SWAP_HALVES = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/** Adds the squares of four lanes to two sums of 64 bits. */
export function addSquares(f: FunctionBuilder, sum: Variable<'v128'>, x: Variable<'v128'>): void {
  f.set(sum, i64x2.add(sum, i64x2.extmul_low_i32x4_s(x, x)));
  f.set(sum, i64x2.add(sum, i64x2.extmul_high_i32x4_s(x, x)));
}

/** `integerSqrt` of the unsigned `n`, which is not 0. */
function squareRoot(f: FunctionBuilder, n: Variable<'i32'>): Variable<'i32'> {
  const [root, next] = f.localArray('i32', 2);
  const step = () => i32.shr_u(i32.add(root, i32.div_u(n, root)), i32.const(1));
  f.set(root, i32.shl(i32.const(1), i32.shr_u(i32.sub(i32.const(33), clz(n)), i32.const(1))));
  f.set(next, step());
  f.while(
    () => i32.lt_u(next, root),
    () => {
      f.set(root, next);
      f.set(next, step());
    },
  );
  return root;
}

/** What `rowNormalizer` gives, in locals that the returned function sets from two sums of squares of 64 bits. */
export function rowNormalizer(f: FunctionBuilder): {
  readonly reciprocal: Variable<'v128'>;
  readonly rounding: Rounding;
  set(sums: Variable<'v128'>): void;
} {
  const [reciprocal, half] = f.localArray('v128', 2);
  const [shift, low, high, raise] = f.localArray('i32', 4);
  return {
    reciprocal,
    rounding: { shift, half },
    set(sums) {
      f.set(sums, i64x2.add(sums, v128.shuffle(sums, sums, SWAP_HALVES)));
      f.set(low, i32x4.lane(sums, 0));
      f.set(high, i32x4.lane(sums, 1));
      // 32 − bits, rounded down to an even number.
      f.set(raise, i32.and(i32.select(plus(clz(high), -32), clz(low), high), i32.const(-2)));
      f.set(raise, i32.min_s(raise, i32.const(MOST_RAISE)));
      f.if(
        i32.ge_s(raise, i32.const(0)),
        () => f.set(low, i32.shl(low, raise)),
        () => f.set(low, i32x4.lane(i64x2.shr_u(sums, i32.sub(i32.const(0), raise)), 0)),
      );
      f.set(high, i32.const(0));
      f.if(low, () => f.set(high, i32.div_u(i32.const(-(2 ** 31)), squareRoot(f, low))));
      f.set(reciprocal, i32x4.splat(high));
      f.set(shift, i32.sub(i32.const(31 - UNIT_BITS), i32.shr_s(raise, i32.const(1))));
      f.set(half, halfOf(shift));
    },
  };
}
