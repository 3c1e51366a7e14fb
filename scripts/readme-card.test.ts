import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import type { CandidateRow, CardData } from '../src/optimize/result.ts';
import { cardSection, fillReadme } from './readme-card.ts';

const row: CandidateRow = {
  name: 'int8',
  recipe: [],
  sizeBytes: 1_234_567,
  plannedPeakBytes: 2_000_000,
  measuredPeakBytes: 2_500_000,
  latencyMs: { median: 1.5, p95: 2.25, samples: 10 },
  metric: { name: 'accuracy', value: 0.7, low: 0.68, high: 0.72, n: 100 },
  drop: { value: 0, low: 0, high: 0 },
  agreement: { kind: 'labels', value: 0.99, n: 100 },
  energyMj: { value: 0.5, unit: 'mJ', provenance: 'estimated', model: 'a model', range: [0.1, 1] },
  meetsBudget: true,
  misses: [],
  pareto: true,
  chosen: true,
};
const failed = { code: 'X', message: 'a | b' };
const card = {
  model: { name: 'an encoder' },
  data: { source: 'topics', train: 10, test: 100 },
  rows: [row, { name: 'local', recipe: [], meetsBudget: false, chosen: false, failed }],
  machine: { cpu: 'a processor', engine: 'an engine' },
  refusal: null,
  instruments: { size: 'bytes of the file' },
  date: '2030-01-02T03:04:05Z',
  seed: 7,
} as unknown as CardData;

it('writes each figure as the card has it', () => {
  const section = cardSection(card);
  expect(section).toContain(
    '| **int8** (chosen) | 1.23 MB | 2.50 MB | 1.50 / 2.25 | 0.7000 (0.6800 to 0.7200) | 0.500 mJ, estimated |',
  );
  expect(section).toContain('| local | failed: a \\| b |');
  expect(section).toContain('2030-01-02, seed 7; a processor, an engine.');
  expect(section).toContain('- size: bytes of the file');
});

it('replaces what stands between the markers of this README, and refuses one without them', () => {
  const readme = readFileSync(resolve(import.meta.dirname, '../README.md'), 'utf8');
  const filled = fillReadme(readme, 'first');
  expect(fillReadme(filled, 'second')).toBe(filled.replace('\nfirst\n', '\nsecond\n'));
  expect(() => fillReadme('no markers', '')).toThrow('Restore them');
});
