import { GELU_INPUT } from '../../../program/integer/gelu.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import {
  clampLanes,
  loadCodes,
  multiplyShift,
  type Rounding,
  rounding,
  storeCodes,
  storeWords,
} from './integer-arithmetic.ts';
import { abs, extend } from './integer-instructions.ts';
import { type Features, type KernelContext, kernel, plus, times } from './kernel.ts';

export interface IntLinearVariant {
  readonly output: 'codes' | 'sum';
  readonly gelu: boolean;
  /** Type of what is added. */
  readonly residual: 'none' | 'int8' | 'int32';
}

/** Rows of one tile, and columns. */
const ROWS = 3;
const COLUMNS = 4;
/** Sums of a tile, then a row of zero codes. */
const ZEROS_AT = 64;
/** Bytes of scratch for products over K columns. */
export const intLinearScratch = (K: number): number => ZEROS_AT + ((K + 15) & ~15) + 16;

/** Whether codes are made unsigned for the product, which adds 128 · Σw to it. */
const isShifted = ({ dot }: Features): boolean => dot === 'u8';

/** `c + Σ w·a` of sixteen signed bytes each: with the relaxed dot where it takes all of them, else widened to 16 bits. */
function dotCodes({ dot }: Features): (w: V128, a: Variable<'v128'>, c: V128) => V128 {
  if (dot === 'u8' || dot === 's8') return i32x4.relaxed_dot_i8x16_i7x16_add_s;
  const half = (of: (x: V128) => V128, w: V128, a: V128) => i32x4.dot_i16x8_s(of(a), of(w));
  return (w, a, c) =>
    i32x4.add(i32x4.add(c, half(extend.low_i8x16_s, w, a)), half(extend.high_i8x16_s, w, a));
}

const EVEN = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
const ODD = EVEN.map((byte) => byte + 4);
const pairSums = (a: V128, b: V128): V128 => i32x4.add(v128.shuffle(a, b, EVEN), v128.shuffle(a, b, ODD));

/** Sums of `rows` rows of codes, K bytes apart, with four rows of weights, at `out`: one vector for each row. */
function productTile({ module, features }: KernelContext, name: string, rows: number): number {
  const parameters = { a: 'i32', w0: 'i32', w1: 'i32', w2: 'i32', w3: 'i32', K: 'i32', out: 'i32' } as const;
  return module.func(`${name}_${rows}`, parameters, (f, p) => {
    const acc = f.localArray('v128', rows * COLUMNS);
    const a = f.localArray('v128', rows);
    const [w, inside] = f.localArray('v128', 2);
    const weights = [p.w0, p.w1, p.w2, p.w3];
    const row = [p.a];
    for (let i = 1; i < rows; i++) row.push(f.local('i32', i32.add(row[i - 1], p.K)));
    const dot = dotCodes(features);
    const code = (at: I32): V128 =>
      isShifted(features) ? v128.xor(v128.load(at), v128.i8x16(0x80)) : v128.load(at);
    const sixteen = (mask?: Variable<'v128'>) => {
      row.forEach((at, i) => {
        f.set(a[i], mask ? v128.and(code(at), mask) : code(at));
      });
      weights.forEach((at, j) => {
        f.set(w, v128.load(at));
        a.forEach((x, i) => {
          f.set(acc[i * COLUMNS + j], dot(w, x, acc[i * COLUMNS + j]));
        });
      });
      for (const at of [...row, ...weights]) f.increment(at, 16);
      f.increment(p.K, -16);
    };
    for (const x of acc) f.set(x, v128.zero);
    f.while(
      () => i32.ge_s(p.K, i32.const(16)),
      () => sixteen(),
    );
    f.if(p.K, () => {
      // What stands behind the last code meets a zero, whatever it is.
      f.set(inside, firstBytes(p.K));
      sixteen(inside);
    });
    for (let i = 0; i < rows; i++) {
      const [c0, c1, c2, c3] = acc.slice(i * COLUMNS);
      f.emit(v128.store(p.out, pairSums(pairSums(c0, c1), pairSums(c2, c3)), 16 * i));
    }
  });
}

/** Ones in the first `count` bytes, from 0 to 16. */
const firstBytes = (count: I32): V128 => {
  const word = (lane: number) => v128.i32x4(...[0, 1, 2, 3].map((i) => 4 * i + lane));
  // A lane's bytes at 4i + 0 … 3 are inside while their index is below the count.
  const lanes = [0, 1, 2, 3].map((byte) =>
    v128.and(i32x4.lt_s(word(byte), i32x4.splat(count)), v128.i32x4(255 << (8 * byte))),
  );
  return lanes.reduce((a, b) => v128.or(a, b));
};

/** `integerGelu` of four lanes. */
function geluOf(
  f: FunctionBuilder,
  x: Variable<'v128'>,
  at: { bound: Variable<'i32'>; one: Variable<'i32'>; reduce: Variable<'i32'> },
): void {
  const [t, sign] = f.localArray('v128', 2);
  f.set(x, clampLanes(x, v128.i32x4(1 - GELU_INPUT), v128.i32x4(GELU_INPUT - 1)));
  f.set(t, i32x4.sub(i32x4.splat(at.bound), i32x4.min_s(abs(x), i32x4.splat(at.bound))));
  f.set(t, i32x4.sub(i32x4.splat(at.one), i32x4.mul(t, t)));
  f.set(sign, i32x4.shr_s(x, i32.const(31)));
  f.set(t, i32x4.sub(v128.xor(t, sign), sign));
  const half = i32.shr_u(i32.shl(i32.const(1), at.reduce), i32.const(1));
  f.set(t, i32x4.add(i32x4.add(t, i32x4.splat(at.one)), i32x4.splat(half)));
  f.set(x, i32x4.mul(x, i32x4.shr_s(t, at.reduce)));
}

/** See `intLinear`. A unit of work is four columns of all rows; weights are read as they are stored. */
export function intLinearKernel({ output, gelu, residual }: IntLinearVariant) {
  const name = `int_linear_${output}_${gelu ? 'gelu' : 'none'}_${residual}`;
  const bytes = output === 'codes' ? 1 : 4;
  const residualBytes = residual === 'int8' ? 1 : 4;
  return kernel({
    name,
    fields: {
      x: 'i32',
      w: 'i32',
      bias: 'i32',
      multiplier: 'i32',
      y: 'i32',
      residual: 'i32',
      rows: 'i32',
      K: 'i32',
      C: 'i32',
      shift: 'i32',
      zeroPoint: 'i32',
      low: 'i32',
      high: 'i32',
      bound: 'i32',
      one: 'i32',
      reduce: 'i32',
      geluMultiplier: 'i32',
      geluShift: 'i32',
      residualMultiplier: 'i32',
      residualShift: 'i32',
      residualZero: 'i32',
    },
    build(context, f, at, begin, end) {
      const tiles = Array.from({ length: ROWS + 1 }, (_, r) => (r ? productTile(context, name, r) : 0));
      const [group, column, columns, left, a, y, added, i] = f.localArray('i32', 8);
      const weights = f.localArray('i32', COLUMNS);
      const [bias, multiplier, x, z] = f.localArray('v128', 4);
      const S = context.scratch(f);
      const product = rounding(f, at.shift);
      const splat = (n: I32) => f.local('v128', i32x4.splat(n));
      const [zeroPoint, low, high] = [splat(at.zeroPoint), splat(at.low), splat(at.high)];
      const factorOf = (m: I32, shift: I32): [Variable<'v128'>, Rounding] => [splat(m), rounding(f, shift)];
      const geluFactor = gelu ? factorOf(at.geluMultiplier, at.geluShift) : null;
      const residualFactor = residual === 'none' ? null : factorOf(at.residualMultiplier, at.residualShift);
      const residualZero = residual === 'int8' ? splat(at.residualZero) : null;

      const finishRow = () => {
        f.set(x, i32x4.add(v128.load(i32.add(S, i)), bias));
        f.set(x, multiplyShift(x, multiplier, product));
        if (geluFactor) {
          geluOf(f, x, at);
          f.set(x, multiplyShift(x, ...geluFactor));
        }
        if (residualFactor) {
          f.set(z, residualZero ? i32x4.sub(loadCodes(added), residualZero) : v128.load(added));
          f.set(x, i32x4.add(x, multiplyShift(z, ...residualFactor)));
          f.set(added, i32.add(added, times(at.C, residualBytes)));
        }
        if (output === 'codes') f.set(x, i32x4.add(x, zeroPoint));
        f.set(x, clampLanes(x, low, high));
        (output === 'codes' ? storeCodes : storeWords)(f, y, columns, x);
        f.set(y, i32.add(y, times(at.C, bytes)));
      };
      const tile = (rows: number) => {
        f.call(tiles[rows], a, ...weights, at.K, S);
        f.for(i, i32.const(0), i32.const(16 * rows), 16, finishRow);
        f.set(a, i32.add(a, i32.mul(at.K, i32.const(rows))));
        f.increment(left, -rows);
      };

      if (isShifted(context.features))
        f.for(i, i32.const(ZEROS_AT), plus(at.K, ZEROS_AT + 16), 16, () =>
          f.emit(v128.store(i32.add(S, i), v128.zero)),
        );
      f.for(group, begin, end, 1, () => {
        f.set(column, times(group, COLUMNS));
        f.set(columns, i32.sub(at.C, column));
        weights.forEach((w, j) => {
          f.set(w, i32.add(at.w, i32.mul(i32.min_s(plus(column, j), plus(at.C, -1)), at.K)));
        });
        f.set(bias, v128.load(i32.add(at.bias, times(column, 4))));
        f.set(multiplier, v128.load(i32.add(at.multiplier, times(column, 4))));
        if (isShifted(context.features)) {
          // The product of codes that are all 0 is what making them unsigned adds.
          f.call(tiles[1], plus(S, ZEROS_AT), ...weights, at.K, S);
          f.set(bias, i32x4.sub(bias, v128.load(S)));
        }
        f.set(a, at.x);
        f.set(y, i32.add(at.y, times(column, bytes)));
        if (residual !== 'none') f.set(added, i32.add(at.residual, times(column, residualBytes)));
        f.set(left, at.rows);
        f.while(
          () => i32.ge_s(left, i32.const(ROWS)),
          () => tile(ROWS),
        );
        for (let r = ROWS - 1; r >= 1; r--) f.if(i32.eq(left, i32.const(r)), () => tile(r));
      });
    },
  });
}
