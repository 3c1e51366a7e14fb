import { parse } from 'csv-parse/sync';
import { AttenuateError } from '../tensor/error.ts';
import type { Labelled } from './split.ts';

export interface ScoredPair {
  readonly first: string;
  readonly second: string;
  readonly score: number;
}

/** A row that could not be used. Lines count from 1. */
export interface RejectedRow {
  readonly line: number;
  readonly reason: string;
}

export type ParsedData = { readonly rejected: readonly RejectedRow[] } & (
  | { readonly kind: 'labels'; readonly examples: readonly Labelled[] }
  | { readonly kind: 'pairs'; readonly pairs: readonly ScoredPair[] }
);

export type DataFormat = 'csv' | 'tsv' | 'jsonl';

/** Longest text that is read, in UTF-16 units: far beyond what any supported encoder takes. */
export const MAX_TEXT = 200_000;
export const MAX_ROWS = 2_000_000;

const TEXT = ['text', 'sentence', 'question', 'utterance', 'review', 'content', 'query'];
const LABEL = ['label', 'category', 'class', 'intent', 'topic', 'target'];
const FIRST = ['sentence1', 'text1', 'first'];
const SECOND = ['sentence2', 'text2', 'second'];
const SCORE = ['score', 'similarity'];

interface Row {
  readonly line: number;
  readonly cells: readonly unknown[] | Readonly<Record<string, unknown>>;
}

/** Parses labelled texts or scored pairs; which of the two the columns tell. @throws `DATA_EMPTY` when no row is sound. */
export function parseData(content: string, format: DataFormat): ParsedData {
  const rejected: RejectedRow[] = [];
  const rows = format === 'jsonl' ? jsonRows(content, rejected) : tableRows(content, format, rejected);
  if (rows.length > MAX_ROWS)
    throw new AttenuateError(
      'DATA_TOO_LARGE',
      `[data] too many rows: expected at most ${MAX_ROWS}, got ${rows.length}. Pass a sample.`,
      { rows: rows.length },
    );
  const columns = format === 'jsonl' ? jsonColumns(rows) : tableColumns(rows);
  const examples: Labelled[] = [];
  const pairs: ScoredPair[] = [];
  for (const { line, cells } of columns.header ? rows.slice(1) : rows) {
    const at = (key: string | number) => (cells as Readonly<Record<string | number, unknown>>)[key];
    if (columns.kind === 'pairs') {
      const [first, second] = [at(columns.first), at(columns.second)];
      const raw = at(columns.score);
      const score = typeof raw === 'string' && raw.trim() === '' ? NaN : Number(raw ?? NaN);
      const reason = textProblem(first) ?? textProblem(second);
      if (reason) rejected.push({ line, reason });
      else if (!Number.isFinite(score)) rejected.push({ line, reason: `score is not a number: ${raw}` });
      else pairs.push({ first: first as string, second: second as string, score });
    } else {
      const [text, raw] = [at(columns.text), at(columns.label)];
      const label = ['string', 'number', 'boolean'].includes(typeof raw) ? String(raw).trim() : '';
      const reason = textProblem(text) ?? (label === '' ? 'no label' : null);
      if (reason) rejected.push({ line, reason });
      else examples.push({ text: text as string, label });
    }
  }
  rejected.sort((a, b) => a.line - b.line);
  if (examples.length + pairs.length === 0)
    throw new AttenuateError(
      'DATA_EMPTY',
      `[data] no usable row: expected text and label, or sentence1, sentence2 and score, got ${rejected.length} rejected rows${rejected[0] ? ` (line ${rejected[0].line}: ${rejected[0].reason})` : ''}. Check the file's columns.`,
      { rejected: rejected.slice(0, 20) },
    );
  return columns.kind === 'pairs'
    ? { kind: 'pairs', pairs, rejected }
    : { kind: 'labels', examples, rejected };
}

function textProblem(text: unknown): string | null {
  if (typeof text !== 'string' || text.trim() === '') return 'no text';
  return text.length > MAX_TEXT ? `text of ${text.length} characters, more than ${MAX_TEXT}` : null;
}

function tableRows(content: string, format: 'csv' | 'tsv', rejected: RejectedRow[]): Row[] {
  const records = parse(content, {
    bom: true,
    delimiter: format === 'csv' ? ',' : '\t',
    // Tab-separated text has no quoting: a quotation mark there is a quotation mark.
    quote: format === 'csv' ? '"' : null,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    on_skip: (error) => {
      rejected.push({ line: Number(error?.lines ?? 0), reason: error?.message ?? 'cannot be parsed' });
    },
  }) as unknown as { info: { lines: number }; record: string[] }[];
  let previous = 0;
  return records.map(({ info, record }) => {
    const line = format === 'tsv' ? info.lines : previous + 1;
    previous = info.lines;
    return { line, cells: record };
  });
}

function jsonRows(content: string, rejected: RejectedRow[]): Row[] {
  const rows: Row[] = [];
  content.split(/\r?\n/).forEach((text, i) => {
    if (text.trim() === '') return;
    try {
      const cells = JSON.parse(text);
      if (typeof cells === 'object' && cells !== null) rows.push({ line: i + 1, cells });
      else rejected.push({ line: i + 1, reason: 'not a JSON object' });
    } catch {
      rejected.push({ line: i + 1, reason: 'not JSON' });
    }
  });
  return rows;
}

type Columns = { header: boolean } & (
  | { kind: 'labels'; text: string | number; label: string | number }
  | { kind: 'pairs'; first: string | number; second: string | number; score: string | number }
);

function jsonColumns(rows: readonly Row[]): Columns {
  const keys = Object.keys(rows[0]?.cells ?? {});
  const key = (names: readonly string[]) => keys.find((k) => names.includes(k.toLowerCase()));
  const [first, second, score] = [key(FIRST), key(SECOND), key(SCORE)];
  if (first && second && score) return { header: false, kind: 'pairs', first, second, score };
  return { header: false, kind: 'labels', text: key(TEXT) ?? 'text', label: key(LABEL) ?? 'label' };
}

function tableColumns(rows: readonly Row[]): Columns {
  const head = ((rows[0]?.cells ?? []) as readonly string[]).map((cell) => cell.trim().toLowerCase());
  const at = (names: readonly string[]) => head.findIndex((cell) => names.includes(cell));
  const [first, second, score] = [at(FIRST), at(SECOND), at(SCORE)];
  if (first >= 0 && second >= 0 && score >= 0) return { header: true, kind: 'pairs', first, second, score };
  const [text, label] = [at(TEXT), at(LABEL)];
  if (text >= 0 && label >= 0) return { header: true, kind: 'labels', text, label };
  if (head.length === 3 && head[2] !== '' && Number.isFinite(Number(head[2])))
    return { header: false, kind: 'pairs', first: 0, second: 1, score: 2 };
  return { header: false, kind: 'labels', text: 0, label: 1 };
}
