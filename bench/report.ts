import type { Ceilings } from './ceiling.ts';

export interface Row {
  readonly id: string;
  readonly metric: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  readonly ours: number | null;
  /** By peer, the main one first; null where it could not run (the note says why). */
  readonly peers: Readonly<Record<string, number | null>>;
  /** How many times better we are than the main peer. */
  readonly ratio: number | null;
  /** Whether the outputs agree within `tolerance`; null where nothing is compared. */
  readonly agrees: boolean | null;
  readonly tolerance: string | null;
  /** Further figures of the row, by name. */
  readonly details?: Readonly<Record<string, number | string | null>>;
  readonly note?: string;
}

export interface Machine {
  readonly cpu: string;
  readonly engine: string;
  readonly dot: string;
  readonly ceilings: Ceilings;
}

/** The ratio of two figures, in the direction in which more is better for us. */
export function betterBy(
  better: Row['better'],
  ours: number | null,
  peer: number | null | undefined,
): number | null {
  if (ours === null || peer === null || peer === undefined || ours === 0 || peer === 0) return null;
  return better === 'lower' ? peer / ours : ours / peer;
}

/** A row whose measurement failed, so that one failure never hides the other rows. */
export const failedRow = (id: string, error: unknown): Row => ({
  id,
  metric: 'failed',
  unit: '',
  better: 'lower',
  ours: null,
  peers: {},
  ratio: null,
  agrees: null,
  tolerance: null,
  note: error instanceof Error ? error.message : String(error),
});

const figure = (x: number | null): string => {
  if (x === null) return '–';
  if (Number.isInteger(x)) return x.toLocaleString('en-US');
  return Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(5);
};

export function table(machine: Machine, rows: readonly Row[]): string {
  const lines = rows.map((row) => [
    row.id,
    `${row.metric}${row.unit ? ` (${row.unit})` : ''}`,
    figure(row.ours),
    Object.entries(row.peers)
      .map(([name, value]) => `${name} ${figure(value)}`)
      .join(', '),
    row.ratio === null ? '–' : `${row.ratio.toFixed(2)}×`,
    row.agrees === null ? '–' : row.agrees ? 'yes' : 'NO',
    row.tolerance ?? '–',
  ]);
  const head = ['row', 'metric', 'ours', 'peers', 'better by', 'agrees', 'tolerance'];
  const widths = head.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i].length)));
  const line = (cells: readonly string[]): string => cells.map((c, i) => c.padEnd(widths[i])).join('  ');
  const ceilings = Object.entries(machine.ceilings)
    .map(([name, value]) => `${name} ${value === null ? 'not available' : value.toFixed(1)}`)
    .join(', ');
  const notes = rows.flatMap((row) => {
    const details = Object.entries(row.details ?? {}).flatMap(([name, value]) =>
      value === null ? [] : [`${name} ${typeof value === 'number' ? figure(value) : value}`],
    );
    const facts = [...details, ...(row.note ? [row.note] : [])];
    return facts.length ? [`${row.id}: ${facts.join('; ')}`] : [];
  });
  return [
    `${machine.cpu} · ${machine.engine} · dot ${machine.dot}`,
    `128-bit ceilings, one thread, G(FL)OP/s: ${ceilings}`,
    '',
    line(head),
    line(widths.map((w) => '─'.repeat(w))),
    ...lines.map(line),
    ...(notes.length ? ['', ...notes] : []),
  ].join('\n');
}
