import {
  type Budget,
  type BudgetMiss,
  type CandidateRow,
  type CardData,
  type CardRow,
  isMeasured,
} from '../optimize/result.ts';
import { formatBytes, formatLimit, formatMs, formatScore } from './units.ts';

const LIMITS: readonly (keyof Budget)[] = ['maxSizeBytes', 'maxMemoryBytes', 'maxLatencyMs', 'maxDrop'];

/** The float model's row: the first that was measured. */
export const floatRow = (card: CardData): CandidateRow | undefined => card.rows.find(isMeasured);

export const chosenRow = (card: CardData): CandidateRow | undefined =>
  card.rows.filter(isMeasured).find((row) => row.chosen);

/** The limits that were asked for, in words. */
export function budgetText(budget: Budget): string {
  const parts = LIMITS.flatMap((limit) => {
    const value = budget[limit];
    return value === undefined ? [] : [formatLimit(limit, value)];
  });
  return parts.length ? parts.join(', ') : 'no limit';
}

/** Budget and verdict in one sentence. */
export function verdictText(card: CardData): string {
  const budget = budgetText(card.budget);
  const chosen = chosenRow(card);
  const measured = card.rows.filter(isMeasured).length;
  if (!chosen) return `Refused: none of ${measured} measured candidates meets the budget (${budget}).`;
  const meeting = card.rows.filter((row) => row.meetsBudget).length;
  const goal = card.goal === 'smallest' ? 'the smallest' : 'the one that loses least';
  const among =
    meeting === 1
      ? `the only one of ${measured} measured candidates that meets the budget`
      : `${goal} of the ${meeting} that meet the budget, among ${measured} measured candidates`;
  return `Chosen: ${chosen.name}, ${among} (${budget}).`;
}

/** One broken limit in words. */
export function missText({ limit, allowed, got, excess }: BudgetMiss): string {
  const names = {
    maxSizeBytes: ['size', formatBytes],
    maxMemoryBytes: ['peak memory', formatBytes],
    maxLatencyMs: ['latency', formatMs],
    maxDrop: ['loss', formatScore],
  } as const;
  const [name, format] = names[limit];
  const over = Number.isFinite(excess) ? ` (${Math.ceil(excess * 100)}% over)` : '';
  return `${name} ${format(got)}, allowed ${format(allowed)}${over}`;
}

/** What a row's last column says. */
export function rowVerdict(row: CardRow): string {
  if (!isMeasured(row)) return `failed: ${row.failed.message} (${row.failed.code})`;
  if (row.chosen) return 'chosen';
  return row.meetsBudget ? 'meets the budget' : `misses: ${row.misses.map(missText).join('; ')}`;
}

/** The metric as a reader knows it. */
export const metricName = (name: 'accuracy' | 'spearman'): string =>
  name === 'spearman' ? 'Spearman’s ρ' : 'accuracy';
