import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { AttenuateError } from '../tensor/error.ts';
import {
  type DataFormat,
  type ParsedData,
  parseData,
  type RejectedRow,
  type ScoredPair,
} from './parse-data.ts';
import { seeded, shuffled } from './random.ts';
import { type Labelled, stratifiedSample, stratifiedSplit } from './split.ts';
import { readWordnetTopics, WORDNET_NOTICE } from './wordnet.ts';

export type Dataset = {
  readonly source: string;
  readonly rejected: readonly RejectedRow[];
  readonly hash: string;
  /** A licence notice that must go with figures taken on this data. */
  readonly notice?: string;
} & (
  | { readonly kind: 'labels'; readonly train: readonly Labelled[]; readonly test: readonly Labelled[] }
  | {
      readonly kind: 'pairs';
      readonly pairs: readonly ScoredPair[];
      /** Pairs that nothing is measured on: the first file's beside a test file, or those beyond `maxTest`. */
      readonly train?: readonly ScoredPair[];
    }
);

export interface DataOptions {
  /** A second file to test on; without it a share of the first is held out. */
  test?: string;
  seed?: number;
  /** Share of labelled text that is held out. */
  heldOut?: number;
  /** Most training and test examples; more are sampled by label. */
  maxTrain?: number;
  maxTest?: number;
  /** Definitions of each topic for `wordnet:topics`. */
  perClass?: number;
}

const FORMATS: Readonly<Record<string, DataFormat>> = {
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.txt': 'tsv',
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
};
const MAX_FILE_BYTES = 256 * 1024 * 1024;

/**
 * Reads labelled text or scored pairs: a CSV, TSV or JSONL file, or `wordnet:topics`. All pairs are tested on, up
 * to `maxTest`; what is left over trains. The same seed gives the same split and samples.
 */
export async function readData(source: string, options: DataOptions = {}): Promise<Dataset> {
  const { seed = 1, heldOut = 0.3, maxTrain = 4000, maxTest = 2000 } = options;
  const topics = source === 'wordnet:topics';
  const parsed: ParsedData = topics
    ? {
        kind: 'labels',
        examples: await readWordnetTopics({ perClass: options.perClass ?? 120, seed }),
        rejected: [],
      }
    : await readFileData(source);
  const second = options.test ? await readFileData(options.test) : null;
  if (second && second.kind !== parsed.kind)
    throw new AttenuateError(
      'DATA_KIND',
      `[data] test file of another kind: expected ${parsed.kind}, got ${second.kind}. Pass two files of one kind.`,
      { train: parsed.kind, test: second.kind },
    );
  const rejected = [...parsed.rejected, ...(second?.rejected ?? [])];
  if (parsed.kind === 'pairs') {
    const all = second?.kind === 'pairs' ? second.pairs : parsed.pairs;
    const mixed = all.length > maxTest ? shuffled(all, seeded(seed)) : all;
    const pairs = mixed.slice(0, maxTest);
    if (pairs.length < 3) throw tooFew('at least 3 pairs', pairs.length);
    const train = second ? parsed.pairs : mixed.slice(maxTest);
    return { source, rejected, kind: 'pairs', pairs, train, hash: hashOf(pairs) };
  }
  const split =
    second?.kind === 'labels'
      ? { train: [...parsed.examples], test: [...second.examples] }
      : stratifiedSplit(parsed.examples, heldOut, seed);
  const train = stratifiedSample(split.train, maxTrain, seed);
  const test = stratifiedSample(split.test, maxTest, seed + 1);
  const labels = new Set(train.map(({ label }) => label)).size;
  if (labels < 2) throw tooFew('at least 2 labels', labels);
  if (test.length < 2) throw tooFew('at least 2 held-out texts', test.length);
  const notice = topics ? { notice: WORDNET_NOTICE } : {};
  return { source, rejected, kind: 'labels', train, test, hash: hashOf([train, test]), ...notice };
}

const tooFew = (expected: string, got: number) =>
  new AttenuateError('DATA_TOO_FEW', `[data] too little data: expected ${expected}, got ${got}. Add rows.`, {
    expected,
    got,
  });

const hashOf = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex');

async function readFileData(path: string): Promise<ParsedData> {
  const format = FORMATS[extname(path).toLowerCase()];
  if (!format)
    throw new AttenuateError(
      'DATA_FORMAT',
      `[data] unknown kind of file: expected ${Object.keys(FORMATS).join(', ')} or wordnet:topics, got ${path}. Convert it.`,
      { path },
    );
  const info = await stat(path).catch(() => null);
  if (!info?.isFile())
    throw new AttenuateError(
      'DATA_MISSING',
      `[data] no such file: expected a readable file, got ${path}. Check the path.`,
      { path },
    );
  if (info.size > MAX_FILE_BYTES)
    throw new AttenuateError(
      'DATA_TOO_LARGE',
      `[data] file too large: expected at most ${MAX_FILE_BYTES} bytes, got ${info.size}. Pass a sample.`,
      { path, bytes: info.size },
    );
  return parseData(await readFile(path, 'utf8'), format);
}
