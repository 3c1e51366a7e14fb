import { type CandidateRow, type CardData, type CardRow, isMeasured } from '../optimize/result.ts';
import { escapeMarkdown, jsonForMarkdown } from './escape.ts';
import { instrumentFacts, runFacts } from './facts.ts';
import { formatBytes, formatFigure, formatInterval, formatMs, formatScore, rangeOf } from './units.ts';
import { floatRow, metricName, rowVerdict, verdictText } from './verdict.ts';

/** The card as Markdown: verdict, every row, recipes, and how and where it was measured. */
export function cardMarkdown(card: CardData): string {
  const float = floatRow(card);
  const metric = float ? metricName(float.metric.name) : 'metric';
  const facts = (entries: readonly (readonly [string, string])[]) =>
    entries.map(([name, words]) => `- ${escapeMarkdown(name)}: ${escapeMarkdown(words)}`);
  return [
    `# ${escapeMarkdown(card.model.name)}: report card`,
    '',
    `**${escapeMarkdown(verdictText(card))}**`,
    ...(card.refusal ? ['', escapeMarkdown(card.refusal)] : []),
    '',
    '## Every candidate',
    '',
    `| candidate | size | peak planned | peak measured | latency median | p95 | ${metric} (95% interval) | loss (95% interval) | agreement | energy of one text | verdict |`,
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|',
    ...card.rows.map((row) => tableRow(row, float)),
    '',
    '## Recipes',
    '',
    ...card.rows.map((row) => `- ${escapeMarkdown(row.name)}: \`${jsonForMarkdown(row.recipe)}\``),
    '',
    '## How each figure was taken',
    '',
    ...facts(instrumentFacts(card)),
    '',
    '## What was measured, and where',
    '',
    ...facts(runFacts(card)),
    '',
  ].join('\n');
}

function tableRow(row: CardRow, float: CandidateRow | undefined): string {
  const name = escapeMarkdown(row.name);
  const verdict = escapeMarkdown(rowVerdict(row));
  if (!isMeasured(row)) return `| ${name} |${' |'.repeat(9)} ${verdict} |`;
  const { agreement, drop, energyMj, latencyMs, metric } = row;
  return `| ${[
    row.chosen ? `**${name}**` : name,
    formatBytes(row.sizeBytes),
    formatBytes(row.plannedPeakBytes),
    formatBytes(row.measuredPeakBytes),
    formatMs(latencyMs.median),
    formatMs(latencyMs.p95),
    `${formatScore(metric.value)} (${formatInterval(metric)})`,
    row === float ? '—' : `${formatScore(drop.value)} (${formatInterval(drop)})`,
    `${agreement.kind === 'labels' ? `${(agreement.value * 100).toFixed(1)}% equal labels` : `${formatScore(agreement.value)} mean cosine`}`,
    [formatFigure(energyMj), energyMj.provenance, rangeOf(energyMj)]
      .filter(Boolean)
      .map(escapeMarkdown)
      .join(', '),
    verdict,
  ].join(' | ')} |`;
}
