import { type CandidateRow, type CardData, isMeasured } from '../optimize/result.ts';
import { linearScale, logScale, type Scale } from './scale.ts';
import { element, fit, image, line, text, textWidth, tooltip } from './svg.ts';
import { formatBytes, formatInterval, formatScore, shorten } from './units.ts';
import { floatRow, metricName } from './verdict.ts';

const SIZE = { width: 720, height: 380 };
const PLOT = { left: 64, right: 696, top: 20, bottom: 322 };
const LABEL_WIDTH = 190;

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const overlaps = (a: Box, b: Box): boolean =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/** Rows that no other beats in both size and metric, smallest first. */
export function front(rows: readonly CandidateRow[]): CandidateRow[] {
  const bySize = [...rows].sort((a, b) => a.sizeBytes - b.sizeBytes || b.metric.value - a.metric.value);
  let best = -Infinity;
  return bySize.filter(({ metric }) => {
    if (metric.value <= best) return false;
    best = metric.value;
    return true;
  });
}

/** Rows of about one size stand side by side, so that their intervals can be told apart. */
function dodge(rows: readonly CandidateRow[], x: Scale): Map<CandidateRow, number> {
  const groups = new Map<number, CandidateRow[]>();
  for (const row of rows) {
    const key = [...groups.keys()].find((at) => Math.abs(at - x.map(row.sizeBytes)) < 10);
    groups.set(key ?? x.map(row.sizeBytes), [...(groups.get(key ?? Number.NaN) ?? []), row]);
  }
  const gap = (count: number) => Math.min(16, 80 / count);
  return new Map(
    [...groups].flatMap(([at, group]) =>
      group.map((row, i) => [row, at + (i - (group.length - 1) / 2) * gap(group.length)] as const),
    ),
  );
}

/** Size against the metric, with bootstrap intervals, the front of both, and the budget's limits. */
export function sizeMetricChart(card: CardData): string {
  const rows = card.rows.filter(isMeasured);
  const float = floatRow(card);
  if (!float) return '';
  const { maxSizeBytes, maxDrop } = card.budget;
  const sizes = rows.map((row) => row.sizeBytes);
  const spread = Math.max(...sizes) / Math.min(...sizes);
  // A limit far outside the points would squeeze them: it is said in words beside the chart instead.
  const near = maxSizeBytes !== undefined && maxSizeBytes < 2 * Math.max(...sizes);
  const shown = near && maxSizeBytes * 4 > Math.min(...sizes) ? [maxSizeBytes] : [];
  const floor = maxDrop === undefined ? undefined : float.metric.value - maxDrop;
  const x =
    spread > 8
      ? logScale([...sizes, ...shown], [PLOT.left, PLOT.right])
      : linearScale([...sizes, ...shown, 0], [PLOT.left, PLOT.right], { zero: true, count: 7 });
  const ends = rows.flatMap(({ metric }) => [metric.low, metric.high]);
  const y = linearScale(floor === undefined ? ends : [...ends, floor], [PLOT.bottom, PLOT.top]);
  const name = metricName(float.metric.name);
  const at = dodge(rows, x);
  const body = [
    axes(x, y, name),
    ...shown.map((limit) => sizeLimit(x.map(limit), limit)),
    floor === undefined ? '' : metricLimit(y.map(floor), floor),
    stair(front(rows), at, y),
    ...rows.map((row) => interval(row, at.get(row)!, y)),
    ...rows.map((row) => point(row, row === float, at.get(row)!, y)),
    ...labels(rows, float, at, y),
  ].join('');
  const description = `${rows.length} candidates, size on the horizontal axis, ${name} on the vertical one. The table gives every number.`;
  return image('size-metric', SIZE, { title: `Size against ${name}`, description }, body);
}

function axes(x: Scale, y: Scale, name: string): string {
  const decimals = Math.max(2, Math.ceil(-Math.log10(y.ticks[1] - y.ticks[0]) - 1e-9));
  const horizontal = y.ticks.map(
    (tick) =>
      line(PLOT.left, y.map(tick), PLOT.right, y.map(tick), 'grid') +
      text(PLOT.left - 8, y.map(tick) + 4, tick.toFixed(decimals), 'tick', 'end'),
  );
  const vertical = x.ticks.map(
    (tick) =>
      line(x.map(tick), PLOT.bottom, x.map(tick), PLOT.bottom + 5, 'axis') +
      text(x.map(tick), PLOT.bottom + 20, shorten(formatBytes(tick)), 'tick', 'middle'),
  );
  return [
    ...horizontal,
    ...vertical,
    line(PLOT.left, PLOT.bottom, PLOT.right, PLOT.bottom, 'axis'),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 44, 'size of the file', 'label', 'middle'),
    element(
      'g',
      { transform: `translate(14 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)` },
      text(0, 0, name, 'label', 'middle'),
    ),
  ].join('');
}

const sizeLimit = (at: number, limit: number): string => {
  const anchor = at > PLOT.right - 140 ? 'end' : 'start';
  return (
    line(at, PLOT.top - 8, at, PLOT.bottom, 'limit') +
    text(
      at + (anchor === 'end' ? -6 : 6),
      PLOT.top - 2,
      `size limit ${formatBytes(limit)}`,
      'limit-label',
      anchor,
    )
  );
};

const metricLimit = (at: number, floor: number): string =>
  line(PLOT.left, at, PLOT.right, at, 'limit') +
  text(PLOT.left + 6, at + 14, `lowest allowed ${formatScore(floor)}`, 'limit-label');

function stair(rows: readonly CandidateRow[], at: ReadonlyMap<CandidateRow, number>, y: Scale): string {
  const steps = rows.map((row, i) => {
    const [px, py] = [at.get(row)!.toFixed(1), y.map(row.metric.value).toFixed(1)];
    return i === 0 ? `M${px} ${PLOT.bottom}V${py}` : `H${px}V${py}`;
  });
  return element('path', { d: `${steps.join('')}H${PLOT.right}`, class: 'front' });
}

function interval({ metric, chosen }: CandidateRow, at: number, y: Scale): string {
  const [low, high] = [y.map(metric.low), y.map(metric.high)];
  const kind = chosen ? 'interval is-chosen' : 'interval';
  return (
    line(at, low, at, high, kind) +
    line(at - 4, low, at + 4, low, kind) +
    line(at - 4, high, at + 4, high, kind)
  );
}

function point(row: CandidateRow, float: boolean, cx: number, y: Scale): string {
  const cy = y.map(row.metric.value);
  const { name, metric, sizeBytes, chosen, meetsBudget } = row;
  const kind = chosen ? 'chosen' : float ? 'float' : meetsBudget ? 'meets' : 'misses';
  const words = `${name}: ${formatBytes(sizeBytes)}, ${formatScore(metric.value)} (${formatInterval(metric)})`;
  // Shape as well as colour tells the kinds apart.
  if (float && !chosen)
    return element(
      'rect',
      { x: cx - 6, y: cy - 6, width: 12, height: 12, rx: 2, class: `point ${kind}` },
      tooltip(words),
    );
  const ring = chosen ? element('circle', { cx, cy, r: 12, class: 'ring' }) : '';
  return ring + element('circle', { cx, cy, r: chosen ? 7 : 6, class: `point ${kind}` }, tooltip(words));
}

/** Names beside their points where there is room: the chosen row first, then the float model, then the front. */
function labels(
  rows: readonly CandidateRow[],
  float: CandidateRow,
  at: ReadonlyMap<CandidateRow, number>,
  y: Scale,
): string[] {
  const on = new Set(front(rows));
  const rank = (row: CandidateRow) => (row.chosen ? 0 : row === float ? 1 : on.has(row) ? 2 : 3);
  const stairs = front(rows).map((row, i, all): Box => {
    const from = at.get(row)!;
    const next = all[i + 1];
    const to = next ? at.get(next)! : PLOT.right;
    return { x: from, y: y.map(row.metric.value) - 2, width: to - from, height: 4 };
  });
  const points = rows.map(
    (row): Box => ({
      x: at.get(row)! - 8,
      y: y.map(row.metric.value) - 8,
      width: 16,
      height: 16,
    }),
  );
  const taken = [...stairs, ...points];
  return [...rows]
    .sort((a, b) => rank(a) - rank(b))
    .flatMap((row) => {
      const name = fit(row.name, LABEL_WIDTH);
      const width = textWidth(name) + 4;
      const [px, py] = [at.get(row)!, y.map(row.metric.value)];
      const gap = row.chosen ? 16 : 11;
      const places: Box[] = [py - 22, py + 6, py - 8, py - 36, py + 22].flatMap((top) => [
        { x: px + gap, y: top, width, height: 16 },
        { x: px - gap - width, y: top, width, height: 16 },
      ]);
      const free = places.find(
        (box) =>
          box.x >= PLOT.left &&
          box.x + box.width <= PLOT.right + 20 &&
          box.y >= PLOT.top - 4 &&
          box.y + box.height <= PLOT.bottom &&
          taken.every((other) => !overlaps(box, other)),
      );
      if (!free) return [];
      taken.push(free);
      return text(free.x + 2, free.y + 12, name, row.chosen ? 'name is-chosen' : 'name');
    });
}
