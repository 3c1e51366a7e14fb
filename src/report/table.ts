import { type CandidateRow, type CardData, type CardRow, isMeasured } from '../optimize/result.ts';
import { escapeHtml } from './escape.ts';
import {
  formatBytes,
  formatCount,
  formatFigure,
  formatInterval,
  formatMs,
  formatScore,
  provenanceOf,
  rangeOf,
} from './units.ts';
import { floatRow, metricName, rowVerdict } from './verdict.ts';

const COLUMNS = 8;

const tag = (words: string): string => `<span class="tag">${escapeHtml(words)}</span>`;

const head = (name: string, provenance: string, numeric = true): string =>
  `<th scope="col"${numeric ? ' class="number"' : ''}>${escapeHtml(name)}<small>${tag(provenance)}</small></th>`;

const cell = (value: string, note = ''): string =>
  `<td class="number">${escapeHtml(value)}${note ? `<small>${escapeHtml(note)}</small>` : ''}</td>`;

/** Every row of the card, with the provenance of each column in its head and of each energy figure in its cell. */
export function candidateTable(card: CardData): string {
  const float = floatRow(card);
  const name = float ? metricName(float.metric.name) : 'metric';
  const heads = [
    '<th scope="col">candidate<small>recipe as JSON</small></th>',
    head('size', 'measured'),
    head('peak memory', 'measured'),
    head('latency, median', 'measured'),
    head(float ? `${name}, n\u00a0${formatCount(float.metric.n)}` : name, 'measured'),
    head('loss', 'measured'),
    head('agreement', 'measured'),
    head('energy of one text', 'see cell'),
    '<th scope="col">verdict</th>',
  ];
  return `<div class="scroll" role="region" aria-label="Every candidate" tabindex="0">
<table>
<caption>95% bootstrap intervals in small print. Loss is against the float model on the same texts. A ◆ marks rows that no other beats in size, latency, memory and ${escapeHtml(name)} at once.</caption>
<thead><tr>${heads.join('')}</tr></thead>
<tbody>
${card.rows.map((row) => tableRow(row, float)).join('\n')}
</tbody>
</table>
</div>`;
}

function tableRow(row: CardRow, float: CandidateRow | undefined): string {
  const mark = isMeasured(row) && row.pareto ? ' <span title="not beaten by another row">◆</span>' : '';
  const title = `<th scope="row">${escapeHtml(row.name)}${mark}<code>${escapeHtml(JSON.stringify(row.recipe))}</code></th>`;
  if (!isMeasured(row))
    return `<tr>${title}<td class="wrap" colspan="${COLUMNS}">${escapeHtml(rowVerdict(row))}</td></tr>`;
  const { latencyMs, metric, drop, agreement, energyMj } = row;
  const cells = [
    cell(formatBytes(row.sizeBytes), `${formatCount(row.sizeBytes)} B`),
    cell(formatBytes(row.measuredPeakBytes), `planned ${formatBytes(row.plannedPeakBytes)}`),
    cell(formatMs(latencyMs.median), `p95 ${formatMs(latencyMs.p95)}`),
    cell(formatScore(metric.value), formatInterval(metric)),
    row === float ? cell('—') : cell(formatScore(drop.value), formatInterval(drop)),
    cell(
      agreement.kind === 'labels' ? `${(agreement.value * 100).toFixed(1)}%` : formatScore(agreement.value),
      agreement.kind === 'labels' ? 'equal labels' : 'mean cosine',
    ),
    `<td class="number">${escapeHtml(formatFigure(energyMj))}<small>${escapeHtml(rangeOf(energyMj))}</small><small>${tag(energyMj.provenance)}</small></td>`,
    `<td class="wrap">${escapeHtml(rowVerdict(row))}</td>`,
  ];
  return `<tr${row.chosen ? ' class="is-chosen"' : ''}>${title}${cells.join('')}</tr>`;
}

/** Each distinct provenance of the energy figures with the rows that it belongs to. */
export function energyProvenance(card: CardData): { readonly rows: string; readonly words: string }[] {
  const groups = new Map<string, string[]>();
  for (const row of card.rows.filter(isMeasured)) {
    const words = provenanceOf(row.energyMj);
    groups.set(words, [...(groups.get(words) ?? []), row.name]);
  }
  return [...groups].map(([words, names]) => ({ rows: names.join(', '), words }));
}
