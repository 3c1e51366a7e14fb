import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { DistributionObserver } from '../quantize/distribution.ts';
import { affineCodes, sumCodes, symmetricCodes } from './scales.ts';

function seen(values: Float32Array) {
  const observer = new DistributionObserver();
  observer.add(values);
  return observer.read();
}

/** Mean squared error of codes, by brute force. */
function errorOf(values: Float32Array, { scale, zeroPoint }: { scale: number; zeroPoint: number }): number {
  const codeOf = (x: number) => Math.max(-128, Math.min(127, Math.round(x / scale) + zeroPoint));
  return values.reduce((sum, x) => sum + (x - scale * (codeOf(x) - zeroPoint)) ** 2, 0) / values.length;
}

const gaussian = new Random(3).gaussians(20_000);
const tailed = gaussian.map((x, i) => (i % 1000 === 0 ? 12 * x : x));
const gelu = gaussian.map((x) => (x > 0 ? x : x / 8));

describe('scales of codes', () => {
  it('end at the extremes, or where the error is least', () => {
    for (const codes of [symmetricCodes, affineCodes])
      for (const values of [gaussian, tailed, gelu]) {
        const [range, error] = [codes(seen(values), 'range'), codes(seen(values), 'error')];
        expect(error.scale).toBeLessThanOrEqual(range.scale);
        expect(errorOf(values, error)).toBeLessThanOrEqual(errorOf(values, range) * 1.02);
      }
  });

  it('are as good as any that end elsewhere', () => {
    for (const values of [gaussian, tailed]) {
      const found = errorOf(values, symmetricCodes(seen(values), 'error'));
      const largest = values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      for (let share = 0.1; share <= 1; share += 0.02)
        expect(found).toBeLessThan(errorOf(values, { scale: (share * largest) / 127, zeroPoint: 0 }) * 1.03);
    }
  });

  it('hold the whole range where asked to, and 0 exactly', () => {
    for (const values of [gelu, gaussian.map((x) => x + 40), gaussian.map((x) => x - 40)]) {
      const { scale, zeroPoint } = affineCodes(seen(values), 'range');
      expect(Number.isInteger(zeroPoint)).toBe(true);
      const [low, high] = [scale * (-128.5 - zeroPoint), scale * (127.5 - zeroPoint)];
      expect(low).toBeLessThanOrEqual(Math.min(...values));
      expect(high).toBeGreaterThanOrEqual(Math.max(...values));
    }
  });

  it('take any scale for a tensor of zeros', () => {
    const zeros = seen(new Float32Array(10));
    for (const codes of [symmetricCodes(zeros, 'error'), affineCodes(zeros, 'error'), sumCodes(zeros)])
      expect(codes).toEqual({ scale: 1, zeroPoint: 0 });
  });

  it('leave a sum room beyond what was seen', () => {
    const { scale } = sumCodes(seen(Float32Array.of(-3, 7)));
    expect(7 / scale).toBe(2 ** 15);
  });

  it('refuse what is not finite', () => {
    expect(() => seen(Float32Array.of(1, NaN))).toThrow(
      expect.objectContaining({ code: 'CALIBRATION_NOT_FINITE' }),
    );
  });
});
