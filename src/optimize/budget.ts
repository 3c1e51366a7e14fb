import { AttenuateError } from '../tensor/error.ts';
import type { Budget, BudgetMiss } from './result.ts';

/** What the command line gives; each may be missing. */
export interface BudgetText {
  maxSize?: string;
  maxMemory?: string;
  maxLatency?: string;
  maxDrop?: string;
}

/** The figures that a budget limits. */
export interface Measured {
  readonly sizeBytes: number;
  readonly plannedPeakBytes: number;
  readonly measuredPeakBytes: number;
  readonly latencyMs: { readonly median: number };
  readonly drop: { readonly value: number };
}

export const DEFAULT_BUDGET: Budget = { maxDrop: 0.01 };

const BYTES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
};
const MILLISECONDS: Readonly<Record<string, number>> = { '': 1, us: 1e-3, ms: 1, s: 1e3 };
const SHARES: Readonly<Record<string, number>> = { '': 1, '%': 0.01 };

function quantity(
  flag: string,
  text: string,
  units: Readonly<Record<string, number>>,
  example: string,
): number {
  const match = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z%]*)\s*$/i.exec(text);
  const unit = match ? units[match[2].toLowerCase()] : undefined;
  if (!match || unit === undefined)
    throw new AttenuateError(
      'BUDGET_INVALID',
      `[budget] bad ${flag}: expected a number such as ${example}, got ${JSON.stringify(text)}. Use one of the units ${Object.keys(units).filter(Boolean).join(', ')}.`,
      { flag, got: text },
    );
  return Number(match[1]) * unit;
}

/** Bytes of a text such as `512MB`. @throws `BUDGET_INVALID` */
export const parseBytes = (flag: string, text: string): number => quantity(flag, text, BYTES, '512MB');

/** Reads limits such as `12MB`, `64MiB`, `5ms`, `1%` or `0.01`. @throws `BUDGET_INVALID` */
export function parseBudget({ maxSize, maxMemory, maxLatency, maxDrop }: BudgetText): Budget {
  const drop = maxDrop === undefined ? undefined : quantity('--max-drop', maxDrop, SHARES, '0.01 or 1%');
  if (drop !== undefined && drop > 1)
    throw new AttenuateError(
      'BUDGET_INVALID',
      `[budget] bad --max-drop: expected at most 1 (100%), got ${maxDrop}. Write 1% or 0.01 for one point.`,
      { flag: '--max-drop', got: maxDrop },
    );
  return {
    ...(maxSize !== undefined && { maxSizeBytes: quantity('--max-size', maxSize, BYTES, '12MB') }),
    ...(maxMemory !== undefined && { maxMemoryBytes: quantity('--max-memory', maxMemory, BYTES, '64MiB') }),
    ...(maxLatency !== undefined && {
      maxLatencyMs: quantity('--max-latency', maxLatency, MILLISECONDS, '5ms'),
    }),
    ...(drop !== undefined && { maxDrop: drop }),
  };
}

/** Limits that a candidate breaks, none for one that meets the budget. Memory is the larger of plan and measurement. */
export function budgetMisses(row: Measured, budget: Budget): BudgetMiss[] {
  const got: Record<keyof Budget, number> = {
    maxSizeBytes: row.sizeBytes,
    maxMemoryBytes: Math.max(row.plannedPeakBytes, row.measuredPeakBytes),
    maxLatencyMs: row.latencyMs.median,
    maxDrop: row.drop.value,
  };
  return (Object.keys(got) as (keyof Budget)[]).flatMap((limit) => {
    const allowed = budget[limit];
    if (allowed === undefined || got[limit] <= allowed + Number.EPSILON) return [];
    // A drop is weighed in points, so that a limit of 0 has a distance too.
    const unit = limit === 'maxDrop' ? Math.max(allowed, 0.01) : allowed || 1;
    return [{ limit, allowed, got: got[limit], excess: (got[limit] - allowed) / unit }];
  });
}

/** How far from a budget: the largest excess of any limit; 0 when it is met. */
export const distance = (misses: readonly BudgetMiss[]): number =>
  misses.reduce((largest, { excess }) => Math.max(largest, excess), 0);

const NAMES: Record<keyof Budget, string> = {
  maxSizeBytes: 'size',
  maxMemoryBytes: 'peak memory',
  maxLatencyMs: 'median latency',
  maxDrop: 'drop',
};

function format(limit: keyof Budget, value: number): string {
  if (limit === 'maxLatencyMs') return `${Number(value.toPrecision(3))} ms`;
  if (limit === 'maxDrop') return `${Number((value * 100).toPrecision(3))} points`;
  if (value < 1e3) return `${Math.round(value)} bytes`;
  return value < 1e6 ? `${(value / 1e3).toFixed(2)} kB` : `${(value / 1e6).toFixed(2)} MB`;
}

/** In words: which candidate came nearest and by how much each of its limits is broken. */
export function refusalText(
  rows: readonly { readonly name: string; readonly misses: readonly BudgetMiss[] }[],
): string {
  if (rows.length === 0) return 'No candidate could be measured.';
  const nearest = rows.reduce((a, b) => (distance(b.misses) < distance(a.misses) ? b : a));
  const missed = nearest.misses.map(
    ({ limit, allowed, got }) =>
      `${NAMES[limit]} ${format(limit, got)} is ${format(limit, got - allowed)} over ${format(limit, allowed)}`,
  );
  return `None of ${rows.length} candidates meets the budget. Nearest: ${nearest.name} (${missed.join('; ')}).`;
}
