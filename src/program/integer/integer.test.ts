import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { activate } from '../ops/activation.ts';
import { dyadic, exponentOf, multiplierFor, multiplyShift, shiftFor } from './dyadic.ts';
import {
  EXP_CONSTANT,
  EXP_END,
  EXP_FRACTION,
  EXP_OFFSET,
  EXP_REDUCE,
  EXP_SCALE,
  EXP_SHIFT,
  integerExp,
  MOST_WEIGHT,
} from './exp.ts';
import { GELU_INPUT, geluConstants, integerGelu, LEAST_FRACTION, MOST_FRACTION } from './gelu.ts';
import { integerSqrt, rowNormalizer, sumOfSquares, UNIT_BITS } from './sqrt.ts';

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const multiplier = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const shift = fc.integer({ min: 1, max: 62 });

describe('dyadic numbers', () => {
  it('multiply and round as exact integers do, within 64 bits', () => {
    fc.assert(
      fc.property(int32, multiplier, shift, (x, m, s) => {
        const sum = BigInt(x) * BigInt(m) + (1n << BigInt(s - 1));
        expect(BigInt.asIntN(64, sum)).toBe(sum);
        expect(multiplyShift(x, m, s)).toBe(Number(sum >> BigInt(s)));
      }),
      { numRuns: 2000 },
    );
  });

  it('hold a factor to 31 bits where the shift reaches', () => {
    fc.assert(
      fc.property(fc.double({ min: 2 ** -31, max: 2 ** 29, noNaN: true }), (factor) => {
        const { multiplier, shift } = dyadic(factor);
        expect(multiplier).toBeLessThan(2 ** 31);
        expect(shift).toBeGreaterThanOrEqual(1);
        expect(Math.abs(multiplier / 2 ** shift / factor - 1)).toBeLessThanOrEqual(2 ** -30);
      }),
    );
  });

  it('share the shift of the largest factor', () => {
    const factors = [0, 1e-6, 0.75, 0.1];
    const s = shiftFor(factors);
    expect(s).toBe(31);
    expect(factors.map((f) => multiplierFor(f, s) / 2 ** s)).toEqual(
      factors.map((f) => expect.closeTo(f, 9)),
    );
    expect(shiftFor([])).toBe(1);
  });

  it('know the exponent of any positive double', () => {
    for (const x of [1, 1.999999, 2, 0.5, 0.75, 2 ** -40, 2 ** 30 - 1])
      expect(exponentOf(x)).toBe(Math.floor(Math.log2(x)));
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 30])('refuse the factor %d', (factor) => {
    expect(() => dyadic(factor)).toThrow(expect.objectContaining({ code: 'INTEGER_RANGE' }));
  });
});

describe('i-sqrt', () => {
  it('is the exact floor', () => {
    const check = (n: number) => {
      const root = BigInt(integerSqrt(n));
      expect(root * root <= BigInt(n) && (root + 1n) * (root + 1n) > BigInt(n), `√${n}`).toBe(true);
    };
    for (let n = 0; n < 70_000; n++) check(n);
    for (let r = 1; r <= 2 ** 16; r += 97)
      for (const n of [r * r - 1, r * r, r * r + 1]) if (n < 2 ** 32) check(n);
    check(2 ** 32 - 1);
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), check));
  });
});

describe('a row brought to length 2^20', () => {
  const rowOf = (most: number) =>
    fc.array(fc.integer({ min: -most, max: most }), { minLength: 1, maxLength: 40 });
  it.each([1, 100, 2 ** 15, 2 ** 28])(
    'keeps its direction and stays below 2^21, elements up to %d',
    (most) => {
      fc.assert(
        fc.property(rowOf(most), (row) => {
          const squares = sumOfSquares(row);
          const { reciprocal, shift } = rowNormalizer(squares);
          expect(shift).toBeGreaterThanOrEqual(1);
          expect(shift).toBeLessThanOrEqual(26);
          expect(reciprocal).toBeLessThanOrEqual(2 ** 21);
          const norm = Math.sqrt(Number(squares));
          const error = squares < 2n ** 10n ? 2 ** -10 : 2 ** -14;
          for (const d of row) {
            const n = multiplyShift(d, reciprocal, shift);
            const want = norm === 0 ? 0 : (d / norm) * 2 ** UNIT_BITS;
            expect(Math.abs(n)).toBeLessThan(2 ** 21);
            expect(Math.abs(n - want)).toBeLessThanOrEqual(Math.abs(want) * error + 0.5);
          }
        }),
      );
    },
  );
});

describe('i-GELU', () => {
  it.each([
    // The polynomial's own error is 0.0182 (Kim et al. 2021 give 1.8e-2); what is above it is rounding.
    [MOST_FRACTION, 0.0185],
    [8, 0.0195],
    [LEAST_FRACTION, 0.025],
  ])('with %d bits behind the point is within %f of GELU', (fraction, most) => {
    const constants = geluConstants(fraction);
    let worst = 0;
    for (let q = 1 - GELU_INPUT; q < GELU_INPUT; q++) {
      const x = q / 2 ** fraction;
      const y = integerGelu(q, constants);
      expect(Math.abs(y)).toBeLessThan(2 ** 31);
      worst = Math.max(worst, Math.abs(y * constants.scale - activate('gelu', x)));
    }
    expect(worst).toBeLessThan(most);
    expect(worst).toBeGreaterThan(0.017);
  });

  it('is the identity and zero beyond ±2.51', () => {
    const constants = geluConstants(10);
    for (let x = 2.51; x < 32; x += 0.37) {
      const q = Math.round(x * 1024);
      expect(integerGelu(q, constants) * constants.scale).toBeCloseTo(q / 1024, 2);
      expect(integerGelu(-q, constants) * constants.scale).toBeCloseTo(0, 2);
    }
  });

  it('takes what 16 bits do not hold as their ends', () => {
    const constants = geluConstants(10);
    expect(integerGelu(2 ** 30, constants)).toBe(integerGelu(GELU_INPUT - 1, constants));
    expect(integerGelu(-(2 ** 30), constants)).toBe(integerGelu(1 - GELU_INPUT, constants));
  });
});

describe('i-exp', () => {
  it('stays within 32 bits', () => {
    expect(EXP_OFFSET ** 2 + EXP_CONSTANT).toBeLessThan(2 ** 27);
    const reduced = (EXP_OFFSET ** 2 + EXP_CONSTANT) >> EXP_REDUCE;
    expect(reduced).toBeLessThan(2 ** 16);
    expect(reduced * EXP_SCALE + 2 ** (EXP_SHIFT - 1)).toBeLessThan(2 ** 31);
  });

  it('is within 0.0021 of exp, falls throughout, and ends where half a weight ends', () => {
    let worst = 0;
    let before = MOST_WEIGHT;
    for (let t = 0; t < EXP_END + 5000; t++) {
      const got = integerExp(t);
      const want = MOST_WEIGHT * 2 ** (-t / 2 ** EXP_FRACTION);
      worst = Math.max(worst, Math.abs(got - want));
      expect(got).toBeLessThanOrEqual(before);
      before = got;
    }
    // The paper gives 1.9e-3 for the polynomial on (−ln 2, 0]; half a weight of rounding comes on top.
    expect(worst / MOST_WEIGHT).toBeLessThan(0.0021);
    expect(integerExp(0)).toBe(MOST_WEIGHT);
    expect(integerExp(EXP_END)).toBe(0);
  });
});
