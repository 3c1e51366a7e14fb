import { type CandidateRow, type CardData, isMeasured } from '../optimize/result.ts';
import { linearScale, type Scale } from './scale.ts';
import { element, fit, image, line, text, textWidth, tooltip } from './svg.ts';
import { formatBytes, formatMs, shorten } from './units.ts';

export { front, sizeMetricChart } from './scatter.ts';

const WIDTH = 540;
const LEFT = 172;
const RIGHT = 466;
const ROW = 46;
const TOP = 14;

interface Bar {
  readonly kind: string;
  readonly value: number;
  readonly words: string;
}

interface BarChart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly axis: string;
  readonly rows: readonly CandidateRow[];
  readonly bars: (row: CandidateRow) => readonly [Bar, Bar];
  readonly format: (value: number) => string;
  readonly limit?: number;
}

/** Two thin bars for each row, from zero, with the numbers written at their ends. */
function barChart(chart: BarChart): string {
  const { rows, bars, format, limit } = chart;
  if (rows.length === 0) return '';
  const values = rows.flatMap((row) => bars(row).map((bar) => bar.value));
  const largest = Math.max(...values);
  const shown = limit !== undefined && limit <= 2 * largest ? limit : undefined;
  const all = shown === undefined ? values : [...values, shown];
  const x = linearScale(all, [LEFT, RIGHT], { zero: true, count: 4 });
  const bottom = TOP + rows.length * ROW + 4;
  const body = [
    ...x.ticks.map(
      (tick) =>
        line(x.map(tick), TOP, x.map(tick), bottom, 'grid') +
        text(x.map(tick), bottom + 18, shorten(format(tick)), 'tick', 'middle'),
    ),
    shown === undefined ? '' : limitLine(x.map(shown), bottom, `limit ${format(shown)}`),
    ...rows.map((row, i) => pair(row, bars(row), TOP + 6 + i * ROW, x, format)),
    line(LEFT, TOP, LEFT, bottom, 'axis'),
    text((LEFT + RIGHT) / 2, bottom + 40, chart.axis, 'label', 'middle'),
  ].join('');
  return image(chart.id, { width: WIDTH, height: bottom + 50 }, chart, body);
}

function pair(
  row: CandidateRow,
  bars: readonly [Bar, Bar],
  top: number,
  x: Scale,
  format: (value: number) => string,
): string {
  const kind = row.chosen ? 'name is-chosen' : 'name';
  const name = text(LEFT - 10, top + 21, fit(row.name, LEFT - 20), kind, 'end');
  const drawn = bars.map(({ kind, value, words }, i) => {
    const y = top + i * 17;
    const width = Math.max(1.5, x.map(value) - LEFT);
    return (
      element(
        'path',
        { d: rounded(LEFT, y, width, 15), class: `bar ${kind}` },
        tooltip(`${row.name}: ${words} ${format(value)}`),
      ) + text(LEFT + width + 6, y + 12, format(value), 'value')
    );
  });
  return name + drawn.join('');
}

/** A bar with its free end rounded: the other stands on the axis. */
function rounded(x: number, y: number, width: number, height: number): string {
  const r = Math.min(4, width);
  const n = (value: number) => value.toFixed(1);
  return `M${n(x)} ${n(y)}H${n(x + width - r)}q${r} 0 ${r} ${r}V${n(y + height - r)}q0 ${r} ${-r} ${r}H${n(x)}Z`;
}

function limitLine(at: number, bottom: number, words: string): string {
  const anchor = at + textWidth(words) > WIDTH - 10 ? 'end' : 'start';
  return (
    line(at, TOP - 8, at, bottom, 'limit') +
    text(at + (anchor === 'end' ? -6 : 6), TOP - 2, words, 'limit-label', anchor)
  );
}

/** Median and 95th percentile of one text, with the budget's limit. */
export function latencyChart(card: CardData): string {
  return barChart({
    id: 'latency',
    title: 'Latency of one text',
    description: 'Median and 95th percentile for every measured candidate. The table gives every number.',
    axis: 'latency of one text, batch 1',
    rows: card.rows.filter(isMeasured),
    bars: ({ latencyMs }) => [
      { kind: 'first', value: latencyMs.median, words: 'median' },
      { kind: 'second', value: latencyMs.p95, words: '95th percentile' },
    ],
    format: formatMs,
    limit: card.budget.maxLatencyMs,
  });
}

/** Peak memory as planned before a run and as measured in a process of its own, with the budget's limit. */
export function memoryChart(card: CardData): string {
  return barChart({
    id: 'memory',
    title: 'Peak memory',
    description: 'Planned and measured peak for every measured candidate. The table gives every number.',
    axis: 'peak memory',
    rows: card.rows.filter(isMeasured),
    bars: ({ plannedPeakBytes, measuredPeakBytes }) => [
      { kind: 'first', value: plannedPeakBytes, words: 'planned' },
      { kind: 'second', value: measuredPeakBytes, words: 'measured' },
    ],
    format: formatBytes,
    limit: card.budget.maxMemoryBytes,
  });
}
