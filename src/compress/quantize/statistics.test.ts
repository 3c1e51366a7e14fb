import { describe, expect, it } from 'vitest';
import { Random } from '../../tensor/random.ts';
import { Histogram } from './histogram.ts';
import { InputObserver } from './statistics.ts';

describe('Histogram', () => {
  const add = (histogram: Histogram, values: number[]) =>
    histogram.add(values, Math.max(...values.map(Math.abs)));

  it('counts the same in any order, whatever its reach was', () => {
    const values = [...new Random(1).gaussians(500, 3), 0, 1, -1, 100, -0.25];
    const [up, down] = [new Histogram(), new Histogram()];
    for (const x of values) add(up, [x]);
    for (const x of values.toReversed()) add(down, [x]);
    expect(up).toEqual(down);
    expect(up.reach).toBe(128);
    expect(up.counts.reduce((a, b) => a + b)).toBe(values.length);
  });

  it('puts each value within a bin of where it is', () => {
    const histogram = new Histogram();
    const values = [...new Random(2).gaussians(64)];
    add(histogram, values);
    const width = (2 * histogram.reach) / histogram.counts.length;
    const sorted = values.toSorted((a, b) => a - b);
    let i = 0;
    for (const [bin, count] of histogram.counts.entries())
      for (let k = 0; k < count; k++, i++)
        expect(Math.abs(histogram.valueAt(bin) - sorted[i])).toBeLessThanOrEqual(width / 2 + 1e-12);
  });

  it('takes zeros before anything else', () => {
    const histogram = new Histogram();
    add(histogram, [0, 0]);
    add(histogram, [0.5]);
    expect(histogram.counts.reduce((a, b) => a + b)).toBe(3);
    expect(histogram.counts[histogram.counts.length / 2]).toBe(2);
  });
});

describe('InputObserver', () => {
  it('keeps rows taken evenly, however many come', () => {
    const observer = new InputObserver(1);
    for (let row = 0; row < 3000; row += 100)
      observer.add(Float32Array.from({ length: 100 }, (_, i) => row + i));
    const { samples, rows } = observer.statistics(null);
    expect(rows).toBe(3000);
    const steps = new Set([...samples].slice(1).map((v, i) => v - samples[i]));
    expect([...steps]).toEqual([16]);
    expect(samples[0]).toBe(0);
    expect(samples.length).toBe(188);
  });

  it('goes on from a state as if it had never stopped', () => {
    const rows = new Random(4).gaussians(600 * 3);
    const [whole, first, second] = [0, 1, 2].map(() => new InputObserver(3));
    whole.add(rows.slice(0, 900));
    whole.add(rows.slice(900));
    first.add(rows.slice(0, 900));
    second.restore(first.state());
    second.add(rows.slice(900));
    expect(second.statistics(null)).toEqual(whole.statistics(null));
  });

  it('refuses what is not finite, and to say anything of nothing', () => {
    const observer = new InputObserver(2);
    expect(() => observer.statistics(null)).toThrow(expect.objectContaining({ code: 'CALIBRATION_EMPTY' }));
    expect(() => observer.add(Float32Array.of(1, Number.NaN))).toThrow(
      expect.objectContaining({ code: 'CALIBRATION_NOT_FINITE' }),
    );
  });
});
