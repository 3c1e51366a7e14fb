import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { CandidateRow, CardData, CardRow, Interval } from '../src/optimize/result.ts';

const START = '<!-- card:start -->';
const END = '<!-- card:end -->';

const size = (bytes: number) =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} KB` : `${(bytes / 1e6).toFixed(2)} MB`;
const interval = ({ value, low, high }: Interval) =>
  `${value.toFixed(4)} (${low.toFixed(4)} to ${high.toFixed(4)})`;

function energy({ energyMj }: CandidateRow): string {
  if (energyMj.provenance === 'unavailable') return `unavailable: ${energyMj.reason}`;
  return `${energyMj.value.toPrecision(3)} ${energyMj.unit}, ${energyMj.provenance}`;
}

function tableRow(row: CardRow): string {
  const name = row.chosen ? `**${row.name}** (chosen)` : row.name;
  const cells = row.failed
    ? [name, `failed: ${row.failed.message}`, '', '', '', '']
    : [
        name,
        size(row.sizeBytes),
        size(row.measuredPeakBytes),
        `${row.latencyMs.median.toFixed(2)} / ${row.latencyMs.p95.toFixed(2)}`,
        interval(row.metric),
        energy(row),
      ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

/** The card as a README section: every number is read from `card.json`. */
export function cardSection(card: CardData): string {
  const { model, data, machine, rows, refusal, instruments, date, seed } = card;
  const measured = rows.find((row): row is CandidateRow => !row.failed);
  return [
    `${model.name} on ${data.source}: ${data.train} texts to train on, ${data.test} to test on; ${date.slice(0, 10)}, seed ${seed}; ${machine.cpu}, ${machine.engine}.`,
    '',
    `| candidate | size | peak memory | latency ms, median / p95 | ${measured?.metric.name ?? 'metric'} (95% interval) | energy of one text |`,
    '|---|---|---|---|---|---|',
    ...rows.map(tableRow),
    ...(refusal ? ['', refusal] : []),
    '',
    ...Object.entries(instruments).map(([what, how]) => `- ${what}: ${how}`),
  ].join('\n');
}

/** @throws when the README has lost its markers */
export function fillReadme(readme: string, section: string): string {
  const start = readme.indexOf(START);
  const end = readme.indexOf(END);
  if (start < 0 || end < start)
    throw new Error(`[readme-card] no markers: expected ${START} … ${END}. Restore them.`);
  return `${readme.slice(0, start + START.length)}\n${section}\n${readme.slice(end)}`;
}

if (process.argv[1] === import.meta.filename) {
  const [path = 'out/demo/card.json'] = process.argv.slice(2);
  if (!existsSync(path)) {
    console.error(`[readme-card] no card: expected ${path}. Run npm run demo first.`);
    process.exit(1);
  }
  const readme = resolve(import.meta.dirname, '../README.md');
  const section = cardSection(JSON.parse(readFileSync(path, 'utf8')));
  writeFileSync(readme, fillReadme(readFileSync(readme, 'utf8'), section));
  console.log(`${readme}: card of ${path}`);
}
