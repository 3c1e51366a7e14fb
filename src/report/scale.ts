/** A mapping from data to pixels with its ticks. */
export interface Scale {
  readonly map: (value: number) => number;
  readonly ticks: readonly number[];
  readonly low: number;
  readonly high: number;
}

/** The round step (1, 2 or 5 times a power of ten) that gives about `count` ticks. */
function roundStep(span: number, count: number): number {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((f) => f * power >= rough * 0.999) ?? 10;
  return factor * power;
}

/** A linear scale over round bounds that hold every value. */
export function linearScale(
  values: readonly number[],
  range: readonly [number, number],
  { zero = false, count = 5 } = {},
): Scale {
  let low = zero ? 0 : Math.min(...values);
  let high = Math.max(...values, zero ? 0 : -Infinity);
  if (!(high > low)) {
    const pad = Math.abs(low) * 0.1 || 1;
    high += pad;
    if (!zero) low -= pad;
  }
  const step = roundStep(high - low, count);
  low = Math.floor(low / step + 1e-9) * step;
  high = Math.ceil(high / step - 1e-9) * step;
  const ticks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => low + i * step);
  const [from, to] = range;
  return { map: (v) => from + ((v - low) / (high - low)) * (to - from), ticks, low, high };
}

/** A logarithmic scale with ticks at 1, 2 and 5 of each decade; values must be above zero. */
export function logScale(values: readonly number[], range: readonly [number, number]): Scale {
  const low = Math.min(...values) / 1.3;
  const high = Math.max(...values) * 1.3;
  const ticks: number[] = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** decade;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  const [from, to] = range;
  const span = Math.log(high / low);
  return { map: (v) => from + (Math.log(v / low) / span) * (to - from), ticks, low, high };
}
