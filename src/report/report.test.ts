import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CandidateRow, CardData } from '../optimize/result.ts';
import { writeCard } from './card.ts';
import { front } from './charts.ts';
import { escapeHtml, escapeMarkdown } from './escape.ts';
import { cardHtml } from './html.ts';
import { cardMarkdown } from './markdown.ts';
import { linearScale, logScale } from './scale.ts';
import { formatBytes, formatMs, formatRatio, significant } from './units.ts';
import { verdictText } from './verdict.ts';

const HOSTILE = `<img src=x onerror="alert('1')"> | \`code\` & \u202e]]>`;

function row(
  name: string,
  megabytes: number,
  accuracy: number,
  extra: Partial<CandidateRow> = {},
): CandidateRow {
  return {
    name,
    recipe: [{ step: 'quantize', variant: name }],
    sizeBytes: megabytes * 1e6,
    plannedPeakBytes: megabytes * 1.25e6,
    measuredPeakBytes: megabytes * 1.5e6,
    latencyMs: { median: megabytes / 4, p95: megabytes / 3, samples: 60 },
    metric: { name: 'accuracy', value: accuracy, low: accuracy - 0.012, high: accuracy + 0.011, n: 1500 },
    drop: { value: 0.801 - accuracy, low: 0.79 - accuracy, high: 0.81 - accuracy },
    agreement: { kind: 'labels', value: 0.987, n: 1500 },
    energyMj: {
      value: megabytes / 50,
      unit: 'mJ',
      provenance: 'estimated',
      model: 'a model of 45 nm',
      range: [0.01, 9],
    },
    meetsBudget: true,
    misses: [],
    pareto: true,
    chosen: false,
    ...extra,
  };
}

const card = (extra: Partial<CardData> = {}): CardData => ({
  version: 1,
  model: {
    name: 'an encoder',
    source: 'models/an-encoder',
    architecture: 'bert',
    layers: 6,
    parameters: 22_713_216,
    hash: 'ab'.repeat(32),
    provenance: { licence: 'Apache-2.0' },
  },
  data: {
    source: 'reviews.csv',
    kind: 'labels',
    method: 'linear probe on frozen embeddings',
    train: 3000,
    test: 1500,
    classes: 45,
    tokens: { median: 14, p95: 31, longest: 60 },
    rejectedRows: 2,
    hash: 'cd'.repeat(32),
  },
  budget: { maxSizeBytes: 30e6, maxDrop: 0.01 },
  goal: 'least-drop',
  machine: {
    cpu: 'a processor',
    cores: 4,
    memoryBytes: 8e9,
    engine: 'Node 24',
    os: 'linux 6',
    architecture: 'x64',
  },
  rows: [
    row('float', 90.9, 0.801, {
      recipe: [],
      meetsBudget: false,
      misses: [{ limit: 'maxSizeBytes', allowed: 30e6, got: 90.9e6, excess: 2.03 }],
    }),
    row('int8', 23.1, 0.7987, { chosen: true }),
    row('local', 90.8, 0.7731, {
      energyMj: { value: null, unit: 'mJ', provenance: 'unavailable', reason: 'no counter here' },
    }),
    {
      name: 'broken',
      recipe: [],
      meetsBudget: false,
      chosen: false,
      failed: { code: 'X_Y', message: 'it broke' },
    },
  ],
  chosen: 'int8',
  refusal: null,
  drift: { startMedianMs: 10, endMedianMs: 10.3, ratio: 1.03 },
  instruments: {
    size: 'bytes on disk',
    memory: 'sampled',
    latency: 'a clock',
    metric: 'a test',
    energy: 'a table',
  },
  artifact: { file: 'model.safetensors', sizeBytes: 23.1e6 },
  seed: 7,
  date: '2030-01-02T03:04:05.000Z',
  ...extra,
});

const refused = (): CardData =>
  card({
    rows: card().rows.map((r) => ({ ...r, chosen: false, meetsBudget: false }) as CandidateRow),
    chosen: null,
    refusal: 'No candidate meets the budget; nearest is int8.',
    artifact: null,
  });

/** Throws where a tag is not closed in order or an attribute is not quoted. */
function expectWellFormed(html: string): void {
  const open: string[] = [];
  const body = html.replace('<!doctype html>', '').replace(/<style>[^<]*<\/style>/, '');
  const tag = /<(\/?)([a-z][a-z0-9]*)((?:\s+[a-zA-Z0-9-]+="[^"<]*")*)\s*(\/?)>/y;
  for (let at = body.indexOf('<'); at >= 0; at = body.indexOf('<', at)) {
    tag.lastIndex = at;
    const found = tag.exec(body);
    if (!found) throw new Error(`not a tag: ${body.slice(at, at + 60)}`);
    const [whole, closing, name, , empty] = found;
    if (closing) expect(open.pop(), whole).toBe(name);
    else if (!empty) open.push(name);
    at += whole.length;
  }
  expect(open).toEqual([]);
  expect(body.replace(/&(?:amp|lt|gt|quot|#39);/g, '')).not.toContain('&');
  const ids = [...body.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
  expect(new Set(ids).size).toBe(ids.length);
}

describe('card.html', () => {
  it.each([
    ['chosen', card()],
    ['refused', refused()],
    ['nothing measured', card({ rows: card().rows.slice(3), chosen: null, refusal: 'Everything failed.' })],
    ['one row', card({ rows: card().rows.slice(0, 1), chosen: null, refusal: 'r', drift: null })],
    ['a free budget', card({ budget: {} })],
  ])('is well-formed, asks for nothing and draws only numbers: %s', (_, data) => {
    const html = cardHtml(data);
    expectWellFormed(html);
    expect(html).not.toMatch(/https?:\/\/|<script|<link|url\(|@import|src=/);
    expect(html).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('shows every row with its numbers and the provenance of each', () => {
    const html = cardHtml(card());
    for (const shown of ['90.9 MB', '23.1 MB', '28.9 MB', '34.6 MB', '5.78 ms', 'p95 7.70 ms', '0.7987'])
      expect(html).toContain(shown);
    expect(html).toContain('0.7867 to 0.8097');
    expect(html).toContain('estimated with a model of 45 nm');
    expect(html).toContain('0.0100 to 9.00 mJ');
    expect(html).toContain('accuracy, n\u00a01,500');
    expect(html).toContain('planned 28.9 MB');
    expect(html).toContain('unavailable: no counter here');
    expect(html).toContain('failed: it broke (X_Y)');
    expect(html).toContain('misses: size 90.9 MB, allowed 30.0 MB (203% over)');
    expect(html).toContain('3.94× smaller; float 90.9 MB');
    expect(html.match(/<tr/g)).toHaveLength(1 + 4);
    expect(html.match(/class="chart"/g)).toHaveLength(3);
  });

  it('escapes everything that comes from outside', () => {
    const base = card();
    const rows = base.rows.map((r) => ({ ...r, name: HOSTILE, recipe: [{ step: HOSTILE }] }));
    const hostile = card({
      rows,
      model: { ...base.model, name: HOSTILE, source: HOSTILE, provenance: { [HOSTILE]: HOSTILE } },
      data: { ...base.data, source: HOSTILE, notice: HOSTILE },
      instruments: { ...base.instruments, size: HOSTILE },
    });
    const html = cardHtml(hostile);
    expectWellFormed(html);
    expect(html).not.toContain('<img');
    expect(html).not.toContain('\u202e');
    expect(cardMarkdown(hostile)).not.toContain('<img');
  });
});

describe('card.md', () => {
  it('has one table row for each candidate, with as many cells as the head', () => {
    const lines = cardMarkdown(card())
      .split('\n')
      .filter((line) => line.startsWith('|'));
    const cells = lines.map((line) => line.replaceAll('\\|', '').split('|').length);
    expect(lines).toHaveLength(2 + 4);
    expect(new Set(cells).size).toBe(1);
    expect(lines[3]).toContain(
      '**int8** | 23.1 MB | 28.9 MB | 34.6 MB | 5.78 ms | 7.70 ms | 0.7987 (0.7867 to 0.8097)',
    );
  });

  it('keeps recipes as JSON', () => {
    const [, written] = /- int8: `(.*)`/.exec(cardMarkdown(card()))!;
    expect(JSON.parse(written)).toEqual(card().rows[1].recipe);
  });
});

it('says budget and verdict in one sentence', () => {
  expect(verdictText(card())).toBe(
    'Chosen: int8, the one that loses least of the 2 that meet the budget, among 3 measured candidates (size at most 30.0 MB, loss at most 0.0100).',
  );
  expect(verdictText(refused())).toBe(
    'Refused: none of 3 measured candidates meets the budget (size at most 30.0 MB, loss at most 0.0100).',
  );
  expect(cardHtml(refused())).toContain('No candidate meets the budget; nearest is int8.');
});

it('writes three files and leaves nothing beside them, whatever happens', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'card-'));
  try {
    const files = await writeCard(join(folder, 'new'), card());
    expect(readdirSync(join(folder, 'new')).sort()).toEqual(['card.html', 'card.json', 'card.md']);
    expect(JSON.parse(readFileSync(files.json, 'utf8'))).toEqual(card());
    writeFileSync(join(folder, 'file'), '');
    await expect(writeCard(join(folder, 'file'), card())).rejects.toThrow();
    expect(readdirSync(folder).sort()).toEqual(['file', 'new']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('reads units as people write them', () => {
  expect([0, 873, 999.6, 12_400, 1_234_567, 2.1e9].map(formatBytes)).toEqual([
    '0 B',
    '873 B',
    '1.00 KB',
    '12.4 KB',
    '1.23 MB',
    '2.10 GB',
  ]);
  expect([0.0123, 1.5, 250, 1234, 12_345].map(formatMs)).toEqual([
    '0.0123 ms',
    '1.50 ms',
    '250 ms',
    '1,234 ms',
    '12.3 s',
  ]);
  expect(significant(0.000_000_4)).toBe('0.000000');
  expect(formatRatio(4, 1, 'smaller', 'larger')).toBe('4.00× smaller');
  expect(formatRatio(1, 2, 'smaller', 'larger')).toBe('2.00× larger');
});

it('keeps identifiers readable in Markdown and markup out of it', () => {
  expect(escapeMarkdown('local_64 + int8(128,128)')).toBe('local_64 + int8(128,128)');
  expect(escapeMarkdown('_a_ | *b*\n<c>')).toBe('\\_a\\_ \\| \\*b\\* &lt;c&gt;');
  expect(escapeHtml('\u0000"<')).toBe('\ufffd&quot;&lt;');
});

it('draws scales over round bounds, also for one value', () => {
  const scale = linearScale([0.773, 0.801], [0, 100]);
  expect(scale.low).toBeLessThanOrEqual(0.773);
  expect(scale.high).toBeGreaterThanOrEqual(0.801);
  expect(linearScale([3], [0, 100]).map(3)).toBeCloseTo(50);
  expect(linearScale([0], [0, 100], { zero: true }).ticks.every(Number.isFinite)).toBe(true);
  expect(logScale([1, 100], [0, 1]).ticks).toEqual([1, 2, 5, 10, 20, 50, 100]);
});

it('finds the front of size and metric', () => {
  const rows = [row('a', 10, 0.8), row('b', 5, 0.7), row('c', 6, 0.69), row('d', 10, 0.75)];
  expect(front(rows).map(({ name }) => name)).toEqual(['b', 'a']);
});
