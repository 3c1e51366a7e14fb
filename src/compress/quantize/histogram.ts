const BINS = 2048;

/**
 * How often values fall where: bins of one width from −reach to reach. A value beyond doubles the reach and joins
 * bins in pairs, so that one pass is enough and the same values give the same bins in any order.
 */
export class Histogram {
  readonly counts: Float64Array;
  reach: number;

  constructor(counts: Float64Array = new Float64Array(BINS), reach = 0) {
    this.counts = counts;
    this.reach = reach;
  }

  /** @param values finite numbers, none larger than `largest` */
  add(values: ArrayLike<number>, largest: number): void {
    if (largest > this.reach) this.widen(largest);
    const { counts, reach } = this;
    const half = counts.length / 2;
    // All zeros so far: any width does.
    const scale = reach > 0 ? half / reach : 0;
    for (let i = 0; i < values.length; i++)
      counts[Math.min(counts.length - 1, Math.floor(values[i] * scale) + half)]++;
  }

  /** The value that a bin stands for: its middle. */
  valueAt(bin: number): number {
    return ((bin + 0.5) / this.counts.length) * 2 * this.reach - this.reach;
  }

  private widen(largest: number): void {
    const { counts } = this;
    if (this.reach === 0) {
      this.reach = 2 ** Math.ceil(Math.log2(largest));
      return;
    }
    const half = counts.length / 2;
    while (this.reach < largest) {
      const before = counts.slice();
      counts.fill(0);
      for (let i = 0; i < before.length; i++) counts[half / 2 + (i >> 1)] += before[i];
      this.reach *= 2;
    }
  }
}
