import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { Histogram } from './histogram.ts';
import { OBSERVERS, type Range, rangeOf } from './input-range.ts';

function seen(values: Float32Array): { histogram: Histogram; range: Range } {
  const histogram = new Histogram();
  histogram.add(
    values,
    values.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
  );
  return {
    histogram,
    range: [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))],
  };
}

/** Mean squared error of values in 256 codes over a range. */
function errorOf(values: Float32Array, [low, high]: Range): number {
  const step = (high - low) / 255;
  const zero = Math.round(-low / step);
  const error = (x: number) => {
    const code = Math.max(0, Math.min(255, Math.round(x / step) + zero));
    return (x - (code - zero) * step) ** 2;
  };
  return values.reduce((sum, x) => sum + error(x), 0) / values.length;
}

const gaussian = new Random(3).gaussians(40_000);
const spiked = gaussian.slice();
spiked[7] = 60;
spiked[900] = -45;

describe('rangeOf', () => {
  it.each(OBSERVERS)('%s holds 0 and nothing that was not seen', (observer) => {
    for (const values of [gaussian, spiked, gaussian.map(Math.abs), gaussian.map((x) => -Math.abs(x) - 1)]) {
      const { histogram, range } = seen(values);
      const [low, high] = rangeOf(histogram, range, observer);
      expect(low).toBeLessThanOrEqual(0);
      expect(high).toBeGreaterThanOrEqual(0);
      expect(high).toBeGreaterThan(low);
      expect(low).toBeGreaterThanOrEqual(Math.min(0, range[0]));
      expect(high).toBeLessThanOrEqual(Math.max(0, range[1]));
    }
  });

  it('minmax takes all that was seen', () => {
    const { histogram, range } = seen(spiked);
    expect(rangeOf(histogram, range, 'minmax')).toEqual([-45, 60]);
  });

  it('percentile leaves out what hardly occurs', () => {
    const { histogram, range } = seen(spiked);
    const [low, high] = rangeOf(histogram, range, 'percentile');
    const outside = spiked.filter((x) => x < low || x > high).length / spiked.length;
    expect(outside).toBeGreaterThan(0);
    expect(outside).toBeLessThan(3e-4);
    expect(high).toBeLessThan(10);
  });

  it('mse loses least, spikes or none', () => {
    for (const values of [gaussian, spiked]) {
      const { histogram, range } = seen(values);
      const own = errorOf(values, rangeOf(histogram, range, 'mse'));
      for (const observer of ['minmax', 'percentile'] as const)
        expect(own).toBeLessThanOrEqual(errorOf(values, rangeOf(histogram, range, observer)) * 1.02);
    }
    const { histogram, range } = seen(spiked);
    expect(errorOf(spiked, rangeOf(histogram, range, 'mse'))).toBeLessThan(errorOf(spiked, range));
  });

  it('entropy clips a long tail and keeps a body without one', () => {
    const { histogram, range } = seen(spiked);
    expect(rangeOf(histogram, range, 'entropy')[1]).toBeLessThan(20);
    const uniform = Float32Array.from({ length: 40_000 }, (_, i) => i / 20_000 - 1);
    const flat = seen(uniform);
    expect(rangeOf(flat.histogram, flat.range, 'entropy')[1]).toBeGreaterThan(0.9);
  });

  it.each(OBSERVERS)('%s of inputs that are all 0 is empty', (observer) => {
    const { histogram, range } = seen(new Float32Array(50));
    expect(rangeOf(histogram, range, observer)).toEqual([0, 0]);
  });
});
