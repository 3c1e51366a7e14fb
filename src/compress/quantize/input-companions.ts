import { encode, type Weight } from '../../tensor/codec.ts';
import { companion } from './companions.ts';
import { Histogram } from './histogram.ts';
import { type RangeObserver, rangeOf } from './input-range.ts';
import type { InputStatistics } from './statistics.ts';

/**
 * What statistics become when every column is multiplied by a number: those that are known column by column exactly,
 * the histogram from the rows that were kept.
 */
export function scaledStatistics(statistics: InputStatistics, by: Float32Array): InputStatistics {
  const { columns } = statistics;
  const times = (values: Float32Array) => values.map((v, c) => v * by[c]);
  const samples = statistics.samples.map((v, i) => v * by[i % columns]);
  const histogram = new Histogram();
  histogram.add(
    samples,
    samples.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
  );
  return {
    ...statistics,
    least: times(statistics.least),
    most: times(statistics.most),
    mean: times(statistics.mean),
    meanMagnitude: times(statistics.meanMagnitude),
    meanSquare: times(times(statistics.meanSquare)),
    histogram,
    samples,
    moments: statistics.moments?.map((v, i) => v * by[Math.floor(i / columns)] * by[i % columns]) ?? null,
  };
}

/** `<product>.inputRange` of each product of an input, by what was seen of it. */
export function rangeCompanions(
  products: readonly string[],
  { least, most, histogram }: InputStatistics,
  observer: RangeObserver,
): [string, Weight][] {
  const seen = [least.reduce((a, b) => Math.min(a, b)), most.reduce((a, b) => Math.max(a, b))] as const;
  const range = Float32Array.from(rangeOf(histogram, seen, observer));
  return products.map((name) => [companion(name, 'inputRange'), encode('float32', [2], range)]);
}

/**
 * `<product>.inputBinary`: threshold β the mean of the inputs, α the mean of |x − β|, the best scale for signs
 * (Rastegari et al. 2016, section 3.1); a start for training (Liu et al. 2022, BiT, section 3.2).
 */
export function binaryCompanions(
  products: readonly string[],
  { mean, samples }: InputStatistics,
): [string, Weight][] {
  const threshold = mean.reduce((a, b) => a + b, 0) / mean.length;
  const scale = samples.reduce((sum, x) => sum + Math.abs(x - threshold), 0) / samples.length;
  const values = Float32Array.of(scale, threshold);
  return products.map((name) => [companion(name, 'inputBinary'), encode('float32', [2], values)]);
}
