import { dominated, type FrontPoint } from '../optimize/precision/front.ts';
import { type RankedLoss, rankingWidth, rankLosses } from '../optimize/precision/rank.ts';
import type { PrecisionReport } from '../optimize/precision/result.ts';
import { escapeHtml, escapeMarkdown } from './escape.ts';
import { factsList, page, plainTable } from './page.ts';
import { formatLoss, precisionMap } from './precision-map.ts';
import { precisionScatter } from './precision-scatter.ts';
import { formatBytes, formatCount, formatMs, formatRatio, formatScore } from './units.ts';

type Row = readonly string[];

/** What was asked for and what came of it, in words. */
export function precisionFacts(report: PrecisionReport): [name: string, words: string][] {
  const { chosen, limits, sensitivity, beforeBytes, peakBytes, length, latencyMs, unseenTexts } = report;
  const asked = [
    limits.sizeBytes === undefined ? '' : `size at most ${formatBytes(limits.sizeBytes)}`,
    limits.memoryBytes === undefined ? '' : `planned peak at most ${formatBytes(limits.memoryBytes)}`,
    limits.latencyMs === undefined ? '' : `latency at most ${formatMs(limits.latencyMs)}`,
  ].filter(Boolean);
  const { metric } = sensitivity;
  return [
    ['asked for', asked.join(', ')],
    [
      'size',
      `${formatBytes(chosen.sizeBytes)}, ${formatRatio(beforeBytes, chosen.sizeBytes, 'smaller', 'larger')} than before (${formatBytes(beforeBytes)}); measured`,
    ],
    [
      'peak memory',
      `${formatBytes(peakBytes)} for one text of ${length} tokens, weights included; exact plan`,
    ],
    ...(latencyMs === null
      ? []
      : [['latency', `${formatMs(latencyMs)} for one text; measured`] as [string, string]]),
    [
      'error of the output',
      `${formatLoss(chosen.measured.output)} on ${formatCount(sensitivity.texts)} texts that widths were searched on, ${chosen.unseen ? `${formatLoss(chosen.unseen.output)} on ${formatCount(unseenTexts)} that were not seen` : 'no others were left'}; measured. Expected from single weights: ${formatLoss(chosen.predicted)}`,
    ],
    ...(metric
      ? [
          [
            metric.name,
            `${formatScore(metric.value)} before, on the texts that widths were searched on; measured`,
          ] as [string, string],
        ]
      : []),
    ['codes chosen by', report.method],
  ];
}

/** Weights by what they lose in the ranking's width, with the width that was chosen for each. */
export function rankingRows(report: PrecisionReport): { head: Row; rows: Row[] } {
  const width = rankingWidth(report.sensitivity);
  const metric = report.sensitivity.metric;
  const head = [
    'weight',
    `output error in ${width}`,
    'share of all',
    'its own error',
    ...(metric ? [`loss of ${metric.name}`] : []),
    'chosen',
  ];
  const row = (loss: RankedLoss): Row => [
    loss.weight,
    formatLoss(loss.output),
    `${(loss.share * 100).toFixed(1)}%`,
    formatLoss(loss.local),
    ...(metric ? [formatScore(loss.metric ?? 0)] : []),
    report.chosen.widths[loss.weight] ?? '',
  ];
  return { head, rows: rankLosses(report.sensitivity, width).map(row) };
}

/** Every measured way of storing the weights, smallest first. */
export function frontRows({ front }: PrecisionReport): { head: Row; rows: Row[] } {
  const row = (point: FrontPoint): Row => [
    `${point.name}${point.chosen ? ' (chosen)' : ''}`,
    formatBytes(point.sizeBytes),
    formatLoss(point.measured.output),
    point.unseen ? formatLoss(point.unseen.output) : '–',
    formatLoss(point.predicted),
    dominated(point, front) ? 'beaten' : '',
  ];
  return {
    head: ['widths', 'size', 'error', 'on unseen text', 'expected', ''],
    rows: [...front].sort((a, b) => a.sizeBytes - b.sizeBytes).map(row),
  };
}

const METHOD =
  'Error is ‖y − y₀‖ / ‖y₀‖ of the model’s output y against the float model’s y₀ over all texts. For each weight and width it was measured with that weight alone stored so; squares of these errors add up to about that of all together, and the mixture is the choice with the smallest sum.';

export function precisionMarkdown(report: PrecisionReport): string {
  const table = ({ head, rows }: { head: Row; rows: readonly Row[] }) =>
    [
      `| ${head.map(escapeMarkdown).join(' | ')} |`,
      `|${head.map((_, i) => (i === 0 ? '---' : '--:')).join('|')}|`,
      ...rows.map((row) => `| ${row.map(escapeMarkdown).join(' | ')} |`),
    ].join('\n');
  return [
    `# ${escapeMarkdown(report.model.name)}: widths of its weights`,
    precisionFacts(report)
      .map(([name, words]) => `- ${escapeMarkdown(name)}: ${escapeMarkdown(words)}`)
      .join('\n'),
    ...(report.front.length > 1 ? ['## Sizes and errors', table(frontRows(report))] : []),
    '## What each weight loses',
    table(rankingRows(report)),
    METHOD,
    '',
  ].join('\n\n');
}

/** The report as one page. */
export function precisionHtml(report: PrecisionReport): string {
  const { sensitivity, chosen, front, model, machine, date, seed } = report;
  const width = rankingWidth(sensitivity);
  const title = `${model.name}: widths of its weights`;
  const [ranking, sizes] = [rankingRows(report), frontRows(report)];
  const figure = (heading: string, words: string, chart: string) =>
    `<figure class="wide"><figcaption><strong>${escapeHtml(heading)}</strong><span>${escapeHtml(words)}</span></figcaption>${chart}</figure>`;
  const charts = [
    figure(
      `What each weight loses in ${width}`,
      'Relative error of the output with that weight alone stored so, and below it the width that was chosen. Darker loses more.',
      precisionMap(sensitivity, width, new Map(Object.entries(chosen.widths))),
    ),
    ...(front.length > 1
      ? [
          figure(
            'Size against error',
            'Measured with the kernels that run it. Mixtures on the line, uniform widths beside it; down and to the left is better.',
            precisionScatter(front),
          ),
        ]
      : []),
  ];
  return page(
    title,
    `<header>
<p class="eyebrow">Attenuate quantisation report</p>
<h1>${escapeHtml(model.name)}</h1>
</header>
${factsList(precisionFacts(report))}
<section aria-labelledby="charts">
<h2 id="charts">Where precision is needed</h2>
<div class="figures">
${charts.join('\n')}
</div>
</section>
${front.length > 1 ? `<section aria-labelledby="sizes"><h2 id="sizes">Sizes and errors</h2>${plainTable('Sizes and errors', sizes.head, sizes.rows)}</section>` : ''}
<section aria-labelledby="weights">
<h2 id="weights">Every weight</h2>
<p class="soft">${escapeHtml(METHOD)}</p>
${plainTable('Every weight', ranking.head, ranking.rows)}
</section>
<section aria-labelledby="recipe">
<h2 id="recipe">The step</h2>
<pre>${escapeHtml(JSON.stringify(report.step, null, 2))}</pre>
</section>
<section aria-labelledby="where">
<h2 id="where">Where it was measured</h2>
${factsList([
  ['model', `${model.architecture}, ${model.layers} layers, ${formatCount(model.parameters)} parameters`],
  ['from', model.source],
  ['machine', `${machine.cpu}, ${machine.os} (${machine.architecture}); ${machine.engine}`],
  ['date', `${date}, seed ${seed}`],
])}
</section>`,
  );
}
