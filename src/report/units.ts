import type { Figure } from '../device/figure.ts';
import type { Budget, Interval } from '../optimize/result.ts';

/** Bytes in decimal units, three significant places: `873 B`, `12.4 KB`, `1.23 MB`, `2.10 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (unit < units.length - 1 && Math.abs(value) >= 999.5) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : significant(value)} ${units[unit]}`;
}

/** Milliseconds, or seconds from 10 s on. */
export const formatMs = (ms: number): string =>
  ms >= 10_000 ? `${significant(ms / 1000)} s` : `${significant(ms)} ms`;

/** Three significant digits without an exponent, whole numbers from 1,000 on. */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const rounded = Math.abs(Number(value.toPrecision(3)));
  if (rounded === 0) return '0';
  if (rounded >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(rounded)))));
}

/** A quantity without the zeros behind its point, for axes: `5.00 MB` → `5 MB`. */
export const shorten = (quantity: string): string =>
  quantity.replace(/(\.\d*?)0+(?= )/, '$1').replace(/\.(?= )/, '');

/** A score or a difference of scores: four places. */
export const formatScore = (value: number): string => value.toFixed(4);

export const formatInterval = ({ low, high }: Pick<Interval, 'low' | 'high'>): string =>
  `${formatScore(low)} to ${formatScore(high)}`;

export const formatCount = (n: number): string => n.toLocaleString('en-US');

/** The number of a figure, without its provenance: `0.412 mJ`, or a dash where there is none. */
export const formatFigure = (figure: Figure): string =>
  figure.value === null ? '—' : `${significant(figure.value)} ${figure.unit}`;

/** Where a figure came from, in words. */
export function provenanceOf(figure: Figure): string {
  if (figure.provenance === 'measured') return `measured with ${figure.instrument}`;
  if (figure.provenance === 'unavailable') return `unavailable: ${figure.reason}`;
  return `estimated with ${figure.model}`;
}

/** The range of an estimate, `0.464 to 6.93 mJ`; empty for other figures. */
export const rangeOf = (figure: Figure): string =>
  figure.provenance === 'estimated' ? `${figure.range.map(significant).join(' to ')} ${figure.unit}` : '';

/** How many times smaller or larger: `3.9× smaller`. */
export function formatRatio(before: number, after: number, less: string, more: string): string {
  if (!(before > 0 && after > 0)) return '';
  const ratio = before / after;
  if (ratio >= 0.995 && ratio < 1.005) return 'the same';
  return ratio > 1 ? `${significant(ratio)}× ${less}` : `${significant(1 / ratio)}× ${more}`;
}

/** One limit in words, e.g. `size at most 10.0 MB`. */
export function formatLimit(limit: keyof Budget, value: number): string {
  if (limit === 'maxSizeBytes') return `size at most ${formatBytes(value)}`;
  if (limit === 'maxMemoryBytes') return `peak memory at most ${formatBytes(value)}`;
  if (limit === 'maxLatencyMs') return `median latency at most ${formatMs(value)}`;
  return `loss at most ${formatScore(value)}`;
}
