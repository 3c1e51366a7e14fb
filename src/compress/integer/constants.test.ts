import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { multiplyShift } from '../../program/integer/dyadic.ts';
import { codesOf, decode } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { embeddingConstants, int8Matrix, normConstants, productConstants } from './constants.ts';

const random = new Random(7);

describe('integers of a product', () => {
  const [C, K] = [12, 40];
  const x = { scale: 0.03, zeroPoint: -20 };

  it('give the product of what the codes stand for, to half a unit', () => {
    const bias = random.gaussians(C);
    const weight = int8Matrix([C, K], random.gaussians(C * K), bias, x.scale);
    const unit = 0.01;
    const made = productConstants('w', codesOf(weight), bias, x, unit);
    const { codes } = codesOf(weight);
    const values = decode(weight);
    const input = random.integers(K, 256).map((code) => code - 128);
    for (let c = 0; c < C; c++) {
      let [sum, want] = [made.bias[c], bias[c]];
      for (let k = 0; k < K; k++) {
        sum += input[k] * codes[c * K + k];
        want += (input[k] - x.zeroPoint) * x.scale * values[c * K + k];
      }
      // Half a unit, and half a unit of the bias.
      const got = multiplyShift(sum, made.multiplier[c], made.shift) * unit;
      expect(Math.abs(got - want)).toBeLessThan(0.5 * unit + 0.001);
    }
  });

  it('stay within 32 bits where a bias dwarfs its row, or a row is zero', () => {
    const bias = Float32Array.of(1000, -0.5, 0, 1e-20);
    const rows = Float32Array.from({ length: 4 * K }, (_, i) => (i < K ? 1e-9 : 0));
    const weight = int8Matrix([4, K], rows, bias, x.scale);
    const made = productConstants('w', codesOf(weight), bias, x, 1);
    bias.forEach((b, row) => {
      const got = multiplyShift(made.bias[row], made.multiplier[row], made.shift);
      expect(Math.abs(got - b)).toBeLessThanOrEqual(0.500001);
    });
  });

  it('are refused where what they are brought to could pass 32 bits', () => {
    const ones = { codes: new Float32Array(K).fill(127), scales: Float32Array.of(1) };
    const constants =
      (unit: number, added = 0) =>
      () =>
        productConstants('layers.0.up', ones, Float32Array.of(0), { scale: 1, zeroPoint: 0 }, unit, added);
    // 128 · 127 · 40 · factor is 2^31 at a factor of 3303.
    expect(constants(1 / 3200)).not.toThrow();
    for (const bad of [constants(1 / 3400), constants(1, 2 ** 31), constants(1e-30)])
      expect(bad).toThrow(expect.objectContaining({ code: 'INTEGER_RANGE' }));
    const dwarfed = { codes: new Float32Array(1), scales: Float32Array.of(1e-30) };
    expect(() => productConstants('w', dwarfed, Float32Array.of(1), { scale: 1, zeroPoint: 0 }, 1)).toThrow(
      /beyond 32 bits/,
    );
  });
});

describe('integers of a norm', () => {
  it('hold γ and β at the scale of the codes, of either sign', () => {
    const { multiplier, bias, shift } = normConstants(
      'norm',
      Float32Array.of(1, -0.5),
      Float32Array.of(0.25, -3),
      { scale: 0.05, zeroPoint: 0 },
    );
    const unit = 0.05 / 256;
    expect(multiplier[0] / 2 ** shift).toBeCloseTo(Math.SQRT2 / unit / 2 ** 20, 8);
    expect(multiplier[1]).toBeCloseTo(-multiplier[0] / 2, -1);
    expect([...bias]).toEqual([Math.round(0.25 / unit), Math.round(-3 / unit)]);
  });

  it('are refused beyond 32 bits', () => {
    expect(() =>
      normConstants('norm', Float32Array.of(1e6), Float32Array.of(0), { scale: 1e-6, zeroPoint: 0 }),
    ).toThrow(expect.objectContaining({ code: 'INTEGER_RANGE' }));
  });
});

describe('integers of an embedding', () => {
  it('never pass what a norm takes, whatever the rows', () => {
    const scales = fc.float32Array({ min: 0, max: 100, noNaN: true, minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(scales, scales, fc.constantFrom(1, 384, 65_536), (word, position, columns) => {
        const { shift, multipliers, scale } = embeddingConstants(
          [
            { name: 'word', scales: word, factor: 2 },
            { name: 'position', scales: position, factor: 1 },
          ],
          columns,
        );
        expect(scale).toBeGreaterThan(0);
        const most = (name: string) =>
          Math.max(...[...multipliers.get(name)!].map((m) => multiplyShift(127, m, shift)));
        expect(most('word') + most('position')).toBeLessThanOrEqual(Math.floor(2 ** 30 / columns));
      }),
    );
  });
});
