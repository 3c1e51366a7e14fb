import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MECHANISMS } from '../src/attention/all.ts';
import type { Mechanism } from '../src/attention/mechanism.ts';
import type { OptionSpec, OptionSpecs } from '../src/attention/options.ts';
import { pairOptions } from '../src/attention/pairs.ts';

const ROOT = resolve(import.meta.dirname, '..');
const TEMPLATE = resolve(import.meta.dirname, 'attention.template.md');
const EXAMPLE = 'src/attention/mechanisms/causal.ts';

export const ATTENTION_DOCS = resolve(ROOT, 'docs/attention.md');

const FAMILIES: readonly Mechanism['family'][] = [
  'softmax over pairs',
  'linear',
  'low rank',
  'stored',
  'biological',
];

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(row)].join('\n');
const mark = (yes: boolean): string => (yes ? 'yes' : '');

function overview(mechanisms: readonly Mechanism[]): string {
  return table(
    ['kind', 'what it does', 'time', 'memory', 'training after', 'made from text', 'exact', 'bounded'],
    mechanisms.map(({ kind, summary, growth, needs, exact }) => [
      `[${kind}](#${kind})`,
      summary,
      growth.time,
      growth.memory,
      needs.training,
      mark(needs.calibration),
      mark(exact),
      mark(needs.boundedLength),
    ]),
  );
}

function bounds(spec: OptionSpec): string {
  const span = 'least' in spec ? `${number(spec.least)} to ${number(spec.most)}` : '';
  switch (spec.type) {
    case 'integer':
      return `whole, ${span}`;
    case 'number':
      return span;
    case 'integers':
      return `up to ${number(spec.length)} whole, ${span}`;
    case 'boolean':
      return 'true or false';
    case 'choice':
      return spec.choices.map((choice) => `\`${choice}\``).join(', ');
    case 'mask':
      return 'a mask expression';
  }
}

const number = (value: number): string =>
  Number.isInteger(value) ? value.toLocaleString('en-US') : String(value);

const defaultOf = (spec: OptionSpec): string =>
  spec.default === undefined ? '*must be given*' : `\`${JSON.stringify(spec.default)}\``;

function optionTable(specs: OptionSpecs): string {
  return table(
    ['option', 'what', 'values', 'default'],
    Object.entries(specs).map(([name, spec]) => [`\`${name}\``, spec.what, bounds(spec), defaultOf(spec)]),
  );
}

/** A step as it would be written: what the benchmark times, or the first example. */
export function recipeLine({ kind, bench, examples }: Mechanism): string {
  const options = Object.values(bench)[0] ?? examples[0] ?? {};
  return JSON.stringify({ step: 'attention', kind, ...options });
}

/** Options that a mechanism shares with every softmax over pairs. */
const shared = (specs: OptionSpecs): [string, OptionSpec][] =>
  Object.entries(specs).filter(([name, spec]) => (pairOptions as OptionSpecs)[name] === spec);

function section(mechanism: Mechanism): string {
  const { kind, summary, growth, needs, exact, paper, options } = mechanism;
  const common = shared(options).map(([name]) => name);
  const own = Object.fromEntries(Object.entries(options).filter(([name]) => !common.includes(name)));
  const facts = [
    `Time ${growth.time}; memory ${growth.memory}`,
    `training after the change: ${needs.training}`,
    ...(exact ? ['exact over its pairs'] : []),
    ...(needs.calibration ? ['made from what the model sees of your text'] : []),
    ...(needs.boundedLength ? ['bounded by the model’s longest text'] : []),
  ];
  const all = Object.keys(pairOptions).length;
  const more =
    common.length === 0
      ? []
      : [
          `${common.length === all ? 'All' : common.map((name) => `\`${name}\``).join(', ')} of the [common options](#softmax-over-pairs).`,
        ];
  return [
    `#### ${kind}`,
    `${summary[0].toUpperCase()}${summary.slice(1)}. ${facts.join('; ')}. ${paper.authors}, [*${paper.title}*](${paper.url}), ${paper.year}.`,
    ...(Object.keys(own).length > 0 ? [optionTable(own)] : common.length > 0 ? [] : ['No options.']),
    ...more,
    `\`\`\`json\n${recipeLine(mechanism)}\n\`\`\``,
  ].join('\n\n');
}

function family(name: Mechanism['family'], mechanisms: readonly Mechanism[]): string {
  const common =
    name === 'softmax over pairs' && Object.keys(pairOptions).length > 0
      ? ['Options that all of these have, unless they say less:', optionTable(pairOptions)]
      : [];
  return [
    `### ${name[0].toUpperCase()}${name.slice(1)}`,
    ...common,
    ...mechanisms.filter((mechanism) => mechanism.family === name).map(section),
  ].join('\n\n');
}

/** The page on attention, from its template and the mechanisms that there are. */
export function attentionDocs(): string {
  const known = FAMILIES.filter((name) => MECHANISMS.some((mechanism) => mechanism.family === name));
  const sorted = known.flatMap((name) => MECHANISMS.filter((mechanism) => mechanism.family === name));
  const parts: Readonly<Record<string, string>> = {
    table: overview(sorted),
    mechanisms: known.map((name) => family(name, sorted)).join('\n\n'),
    'example-file': EXAMPLE,
    example: readFileSync(resolve(ROOT, EXAMPLE), 'utf8').trimEnd(),
  };
  return readFileSync(TEMPLATE, 'utf8').replace(/\{\{([a-z-]+)\}\}/g, (_, name: string) => parts[name]);
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(ATTENTION_DOCS, attentionDocs());
  console.log(`docs: ${MECHANISMS.length} mechanisms in docs/attention.md`);
}
