import {
  EXP_CONSTANT,
  EXP_END,
  EXP_FRACTION,
  EXP_OFFSET,
  EXP_REDUCE,
  EXP_SCALE,
  EXP_SHIFT,
} from '../../../program/integer/exp.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i16x8, i32, i32x4, v128 } from '../instructions.ts';
import { clampLanes, halfOf, multiplyShift, rounding, storeCodes } from './integer-arithmetic.ts';
import { clz } from './integer-instructions.ts';
import { kernel, plus, reduce, times } from './kernel.ts';
import { existing } from './product.ts';

const even = (n: number): number => (n + 1) & ~1;
const four = (n: number): number => (n + 3) & ~3;
/** Bytes of a panel of 8 keys, and of a pair of values: codes in 16 bits, in pairs. */
const panelBytes = (D: number): number => 16 * even(D);
const pairBytes = (D: number): number => 4 * four(D);
const queryBytes = (D: number): number => (2 * even(D) + 15) & ~15;

/** Bytes of scratch of one thread, for sequences of N keys and heads of D columns. */
export const intAttentionScratch = (N: number, D: number): number => {
  const panels = Math.ceil(N / 8);
  return queryBytes(D) + panels * (panelBytes(D) + 4 * pairBytes(D) + 8 * 4 + 8 * 2);
};

/** Columns of the output whose sums stay in registers. */
const SUMS = 8;

/** `integerExp` of four lanes, `t` from 0 on. */
function expOf(f: FunctionBuilder, t: Variable<'v128'>): Variable<'v128'> {
  const [p, mask] = f.localArray('v128', 2);
  f.set(p, i32x4.sub(v128.i32x4(EXP_OFFSET), v128.and(t, v128.i32x4((1 << EXP_FRACTION) - 1))));
  f.set(p, i32x4.add(i32x4.mul(p, p), v128.i32x4(EXP_CONSTANT)));
  f.set(p, i32x4.mul(i32x4.shr_u(p, i32.const(EXP_REDUCE)), v128.i32x4(EXP_SCALE)));
  // Lanes shift by different amounts, one bit of the amount at a time: 12 is the most that counts.
  for (let bit = 0; bit < 4; bit++) {
    f.set(mask, i32x4.shr_s(i32x4.shl(t, i32.const(31 - EXP_FRACTION - bit)), i32.const(31)));
    f.set(p, v128.bitselect(i32x4.shr_u(p, i32.const(1 << bit)), p, mask));
  }
  f.set(p, i32x4.shr_u(i32x4.add(p, v128.i32x4(1 << (EXP_SHIFT - 1))), i32.const(EXP_SHIFT)));
  f.set(p, v128.and(p, i32x4.lt_s(t, v128.i32x4(EXP_END))));
  return p;
}

/** See `intAttention`. A unit is one head of one sequence; products are of 16 bits, the same on every engine. */
export function intAttentionKernel(headSize: number) {
  const D = headSize;
  return kernel({
    name: `int_attention_${D}`,
    fields: {
      q: 'i32',
      k: 'i32',
      v: 'i32',
      o: 'i32',
      lengths: 'i32',
      N: 'i32',
      H: 'i32',
      farthest: 'i32',
      scoreMultiplier: 'i32',
      scoreShift: 'i32',
      valueMultiplier: 'i32',
      valueShift: 'i32',
      zeroPoint: 'i32',
    },
    build(context, f, at, begin, end) {
      const [unit, b, h, n, row, from, i, d, x, y, bits, shift] = f.localArray('i32', 12);
      const [keys, values, scores, weights] = f.localArray('i32', 4);
      const [s, t, largest, sum, half, multiplier, inside] = f.localArray('v128', 7);
      const acc = f.localArray('v128', SUMS);
      const splat = (word: I32) => f.local('v128', i32x4.splat(word));
      const [farthest, scoreMultiplier, zeroPoint] = [at.farthest, at.scoreMultiplier, at.zeroPoint].map(
        splat,
      );
      const score = rounding(f, at.scoreShift);
      const pitch = f.local('i32', i32.mul(at.H, i32.const(D)));
      const panels = f.local('i32', i32.shr_u(plus(at.N, 7), i32.const(3)));
      const query = f.local('i32', context.scratch(f));
      f.set(keys, plus(query, queryBytes(D)));
      f.set(values, i32.add(keys, i32.mul(panels, i32.const(panelBytes(D)))));
      f.set(scores, i32.add(values, i32.mul(panels, i32.const(4 * pairBytes(D)))));
      f.set(weights, i32.add(scores, times(panels, 32)));
      const eachRow = (body: () => void) => f.for(i, i32.const(0), n, 1, body);
      /** Lanes of keys `i + first …` that exist. */
      const exist = (first: number) =>
        i32x4.lt_s(
          i32x4.add(i32x4.splat(i), v128.i32x4(first, first + 1, first + 2, first + 3)),
          i32x4.splat(n),
        );
      const store16 = (address: I32, code: I32, offset = 0) => f.emit(i32.store16(address, code, offset));

      /** Codes of one head as 16 bits: keys in panels of 8, `[D/2][8][2]`; values in pairs of rows, `[D][2]`. */
      const pack = () => {
        f.for(i, keys, scores, 16, () => f.emit(v128.store(i, v128.zero)));
        eachRow(() => {
          const base = i32.mul(i32.shr_u(i, i32.const(3)), i32.const(panelBytes(D)));
          f.set(x, i32.add(i32.add(keys, base), times(i32.and(i, i32.const(7)), 4)));
          f.set(y, i32.add(i32.add(from, at.k), i32.mul(i, pitch)));
          f.for(d, i32.const(0), i32.const(D), 1, () => {
            const place = i32.add(times(i32.shr_u(d, i32.const(1)), 32), times(i32.and(d, i32.const(1)), 2));
            store16(i32.add(x, place), i32.load8_s(i32.add(y, d)));
          });
          f.set(
            x,
            i32.add(
              i32.add(values, i32.mul(i32.shr_u(i, i32.const(1)), i32.const(pairBytes(D)))),
              times(i32.and(i, i32.const(1)), 2),
            ),
          );
          f.set(y, i32.add(i32.add(from, at.v), i32.mul(i, pitch)));
          f.for(d, i32.const(0), i32.const(D), 1, () =>
            store16(i32.add(x, times(d, 4)), i32.load8_s(i32.add(y, d))),
          );
        });
      };

      const scoreRow = () => {
        f.set(y, i32.add(i32.add(from, at.q), i32.mul(row, pitch)));
        for (let c = 0; c < D; c++) store16(query, i32.load8_s(y, c), 2 * c);
        if (D & 1) store16(query, i32.const(0), 2 * D);
        f.set(largest, v128.i32x4(-(2 ** 31)));
        f.set(x, keys);
        f.for(i, i32.const(0), n, 8, () => {
          for (let j = 0; j < 2; j++) f.set(acc[j], v128.zero);
          f.for(d, i32.const(0), i32.const(2 * even(D)), 4, () => {
            f.set(s, v128.load32_splat(i32.add(query, d)));
            for (let j = 0; j < 2; j++)
              f.set(acc[j], i32x4.add(acc[j], i32x4.dot_i16x8_s(s, v128.load(x, 16 * j))));
            f.increment(x, 32);
          });
          for (let j = 0; j < 2; j++) {
            f.emit(v128.store(i32.add(scores, times(i, 4)), acc[j], 16 * j));
            f.set(
              largest,
              i32x4.max_s(largest, v128.bitselect(acc[j], v128.i32x4(-(2 ** 31)), exist(4 * j))),
            );
          }
        });
        reduce(f, [largest], i32x4.max_s);
      };

      const weigh = () => {
        f.set(sum, v128.zero);
        f.for(i, i32.const(0), n, 8, () => {
          const both = [0, 1].map((j) => {
            f.set(s, v128.load(i32.add(scores, times(i, 4)), 16 * j));
            f.set(s, i32x4.min_s(i32x4.sub(largest, s), farthest));
            f.set(t, multiplyShift(s, scoreMultiplier, score));
            f.set(inside, exist(4 * j));
            const p = expOf(f, t);
            f.set(p, v128.and(p, inside));
            f.set(sum, i32x4.add(sum, p));
            return p;
          });
          f.emit(v128.store(i32.add(weights, times(i, 2)), i16x8.narrow_i32x4_s(both[0], both[1])));
        });
        reduce(f, [sum], i32x4.add);
      };

      /** `reciprocalOf(sum) · value` as a multiplier and a shift. */
      const divide = () => {
        const total = i32x4.lane(sum, 0);
        f.set(bits, i32.sub(i32.const(32), clz(total)));
        f.set(
          x,
          i32.select(
            i32.shr_u(total, plus(bits, -16)),
            i32.shl(total, i32.sub(i32.const(16), bits)),
            i32.gt_s(bits, i32.const(16)),
          ),
        );
        f.set(multiplier, i32x4.splat(i32.mul(i32.div_u(i32.const(-(2 ** 31)), x), at.valueMultiplier)));
        f.set(shift, i32.add(plus(bits, 31 - 16), at.valueShift));
        f.set(half, halfOf(shift));
      };

      const addValues = () => {
        for (let first = 0; first < D; first += 4 * SUMS) {
          const sums = acc.slice(0, Math.ceil(Math.min(4 * SUMS, D - first) / 4));
          for (const a of sums) f.set(a, v128.zero);
          f.set(x, plus(values, 4 * first));
          f.for(i, i32.const(0), n, 2, () => {
            f.set(s, v128.load32_splat(i32.add(weights, times(i, 2))));
            sums.forEach((a, c) => {
              f.set(a, i32x4.add(a, i32x4.dot_i16x8_s(s, v128.load(x, 16 * c))));
            });
            f.increment(x, pairBytes(D));
          });
          f.set(y, plus(i32.add(i32.add(from, at.o), i32.mul(row, pitch)), first));
          sums.forEach((a, c) => {
            f.set(a, i32x4.add(multiplyShift(a, multiplier, { shift, half }), zeroPoint));
            f.set(a, clampLanes(a, v128.i32x4(-128), v128.i32x4(127)));
            storeCodes(f, y, i32.const(D - first - 4 * c), a);
            f.increment(y, 4);
          });
        }
      };

      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, at.H));
        f.set(h, i32.rem_u(unit, at.H));
        f.set(n, existing(at.lengths, b, at.N));
        f.set(from, i32.add(i32.mul(i32.mul(b, at.N), pitch), i32.mul(h, i32.const(D))));
        f.if(
          n,
          () => {
            pack();
            f.for(row, i32.const(0), at.N, 1, () => {
              scoreRow();
              weigh();
              divide();
              addValues();
            });
          },
          () =>
            f.for(row, i32.const(0), at.N, 1, () => {
              f.set(y, i32.add(i32.add(from, at.o), i32.mul(row, pitch)));
              f.for(d, i32.const(0), i32.const(D), 1, () => f.emit(i32.store8(i32.add(y, d), at.zeroPoint)));
            }),
        );
      });
    },
  });
}
