import type { CandidateRow, CardData } from '../optimize/result.ts';
import { latencyChart, memoryChart, sizeMetricChart } from './charts.ts';
import { escapeHtml } from './escape.ts';
import { instrumentFacts, runFacts } from './facts.ts';
import { factsList, page } from './page.ts';
import { candidateTable } from './table.ts';
import { formatBytes, formatInterval, formatMs, formatRatio, formatScore } from './units.ts';
import { chosenRow, floatRow, metricName, verdictText } from './verdict.ts';

/** The card as one HTML file: no script, no request, light and dark, every figure with its provenance. */
export function cardHtml(card: CardData): string {
  const title = `${card.model.name}: report card`;
  const chosen = chosenRow(card);
  const float = floatRow(card);
  return page(
    title,
    `<header>
<p class="eyebrow">Attenuate report card</p>
<h1>${escapeHtml(card.model.name)}</h1>
<p class="verdict${chosen ? '' : ' is-refused'}">${escapeHtml(verdictText(card))}</p>
${card.refusal ? `<p>${escapeHtml(card.refusal)}</p>` : ''}
${chosen && float ? tiles(chosen, float) : ''}
</header>
${float ? figures(card, float) : ''}
<section aria-labelledby="candidates">
<h2 id="candidates">Every candidate</h2>
${candidateTable(card)}
</section>
${chosen ? recipe(chosen) : ''}
<section aria-labelledby="how">
<h2 id="how">How each figure was taken</h2>
${factsList(instrumentFacts(card))}
</section>
<section aria-labelledby="what">
<h2 id="what">What was measured, and where</h2>
${factsList(runFacts(card))}
</section>`,
  );
}

function tiles(chosen: CandidateRow, float: CandidateRow): string {
  const metric = metricName(chosen.metric.name);
  const tile = (name: string, value: string, note: string) =>
    `<dl class="tile"><dt>${escapeHtml(name)}</dt><dd class="big">${escapeHtml(value)}</dd><dd>${escapeHtml(note)}</dd></dl>`;
  const against = (ratio: string, before: string) => `${ratio}; float ${before}`;
  const { sizeBytes, latencyMs, measuredPeakBytes } = float;
  return `<div class="tiles">${[
    tile(
      'size',
      formatBytes(chosen.sizeBytes),
      against(formatRatio(sizeBytes, chosen.sizeBytes, 'smaller', 'larger'), formatBytes(sizeBytes)),
    ),
    tile(
      'median latency of one text',
      formatMs(chosen.latencyMs.median),
      against(
        formatRatio(latencyMs.median, chosen.latencyMs.median, 'faster', 'slower'),
        formatMs(latencyMs.median),
      ),
    ),
    tile(
      'peak memory, measured',
      formatBytes(chosen.measuredPeakBytes),
      against(
        formatRatio(measuredPeakBytes, chosen.measuredPeakBytes, 'less', 'more'),
        formatBytes(measuredPeakBytes),
      ),
    ),
    tile(
      metric,
      formatScore(chosen.metric.value),
      chosen === float
        ? formatInterval(chosen.metric)
        : `loss ${formatScore(chosen.drop.value)} (${formatInterval(chosen.drop)})`,
    ),
  ].join('')}</div>`;
}

const KEY = {
  chosen: '<circle cx="7" cy="7" r="5" class="point chosen"/><circle cx="7" cy="7" r="7.5" class="ring"/>',
  float: '<rect x="2" y="2" width="10" height="10" rx="2" class="point float"/>',
  meets: '<circle cx="7" cy="7" r="6" class="point meets"/>',
  misses: '<circle cx="7" cy="7" r="5" class="point misses"/>',
  front: '<path d="M0 11H7V3H14" class="front"/>',
  first: '<rect y="3" width="14" height="9" rx="2" class="bar first"/>',
  second: '<rect y="3" width="14" height="9" rx="2" class="bar second"/>',
} as const;

const legend = (entries: readonly (readonly [keyof typeof KEY, string])[]): string =>
  `<ul class="legend">${entries
    .map(
      ([key, words]) =>
        `<li><svg viewBox="0 0 14 14" aria-hidden="true">${KEY[key]}</svg>${escapeHtml(words)}</li>`,
    )
    .join('')}</ul>`;

function figures(card: CardData, float: CandidateRow): string {
  const metric = metricName(float.metric.name);
  const figure = (title: string, words: string, chart: string, keys: string, wide = false) =>
    `<figure${wide ? ' class="wide"' : ''}><figcaption><strong>${escapeHtml(title)}</strong><span>${escapeHtml(words)}</span></figcaption>${chart}${keys}</figure>`;
  const points = legend([
    ...(card.chosen === null ? [] : [['chosen', 'chosen'] as const]),
    ['float', 'float model'],
    ['meets', 'meets the budget'],
    ['misses', 'misses the budget'],
    ['front', `front of size and ${metric}`],
  ]);
  return `<section aria-labelledby="charts">
<h2 id="charts">What it cost and gained</h2>
<div class="figures">
${figure(`Size against ${metric}`, 'Measured. Bars are 95% bootstrap intervals; up and to the left is better.', sizeMetricChart(card), points, true)}
${figure(
  'Latency of one text',
  `Measured at the data’s own lengths, ${float.latencyMs.samples} texts one at a time. Shorter is better.`,
  latencyChart(card),
  legend([
    ['first', 'median'],
    ['second', '95th percentile'],
  ]),
)}
${figure(
  'Peak memory',
  'Planned before anything is allocated, and measured in a process of its own. Shorter is better.',
  memoryChart(card),
  legend([
    ['first', 'planned'],
    ['second', 'measured'],
  ]),
)}
</div>
</section>`;
}

const recipe = (chosen: CandidateRow): string => `<section aria-labelledby="recipe">
<h2 id="recipe">Recipe of the chosen candidate</h2>
<p class="soft">It travels in the artifact; the same steps on the same model give the same weights.</p>
<pre>${escapeHtml(JSON.stringify(chosen.recipe, null, 2))}</pre>
</section>`;
