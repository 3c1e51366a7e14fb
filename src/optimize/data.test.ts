import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrationTexts } from './calibration-texts.ts';
import { readData } from './data.ts';
import { parseData } from './parse-data.ts';
import { stratifiedSample, stratifiedSplit } from './split.ts';
import { parseSynset, readWordnetTopics } from './wordnet.ts';

describe('parseData', () => {
  it('reads quoted CSV with a header, columns in any order', () => {
    expect(parseData('\uFEFFcategory,text\nfruit,"a ""red"", round\napple"\nroot,carrot\n', 'csv')).toEqual({
      kind: 'labels',
      rejected: [],
      examples: [
        { text: 'a "red", round\napple', label: 'fruit' },
        { text: 'carrot', label: 'root' },
      ],
    });
  });

  it('reads TSV without a header and keeps quotation marks', () => {
    expect(parseData('say "hi"\t1\nbye\t0\n', 'tsv')).toMatchObject({
      examples: [
        { text: 'say "hi"', label: '1' },
        { text: 'bye', label: '0' },
      ],
    });
  });

  it('reads scored pairs with and without a header, and as JSONL', () => {
    const pairs = [{ first: 'a, b', second: 'c', score: 2.5 }];
    expect(parseData('sentence1,sentence2,score\n"a, b",c,2.5', 'csv')).toMatchObject({
      kind: 'pairs',
      pairs,
    });
    expect(parseData('"a, b",c,2.5', 'csv')).toMatchObject({ kind: 'pairs', pairs });
    const json = '{"sentence1":"a, b","sentence2":"c","score":2.5}';
    expect(parseData(json, 'jsonl')).toMatchObject({ kind: 'pairs', pairs });
  });

  it('reports bad rows with their lines', () => {
    const parsed = parseData('text,label\ngood,a\n,b\n"two\nlines",c\nno label,\n', 'csv');
    expect(parsed.rejected).toEqual([
      { line: 3, reason: 'no text' },
      { line: 6, reason: 'no label' },
    ]);
    expect(parseData('{"text":"a","label":1}\n{oops\n7\n', 'jsonl').rejected.map(({ line }) => line)).toEqual(
      [2, 3],
    );
    expect(parseData('a,b,1\nc,d,many\ne,f,\n', 'csv').rejected.map(({ line }) => line)).toEqual([2, 3]);
  });

  it('refuses a file without a usable row', () => {
    expect(() => parseData('only\none\ncolumn\n', 'csv')).toThrow(
      expect.objectContaining({ code: 'DATA_EMPTY' }),
    );
  });
});

const examples = Array.from({ length: 60 }, (_, i) => ({ text: `t${i}`, label: i % 3 ? 'many' : 'few' }));

describe('split', () => {
  it('keeps shares, loses nothing and repeats itself', () => {
    const { train, test } = stratifiedSplit(examples, 0.3, 7);
    expect(test.filter(({ label }) => label === 'few')).toHaveLength(6);
    expect(test.filter(({ label }) => label === 'many')).toHaveLength(12);
    expect(new Set([...train, ...test]).size).toBe(60);
    expect(stratifiedSplit(examples, 0.3, 7)).toEqual({ train, test });
    expect(stratifiedSplit(examples, 0.3, 8).test).not.toEqual(test);
  });

  it('samples within a limit', () => {
    const sample = stratifiedSample(examples, 12, 1);
    expect(sample).toHaveLength(12);
    expect(sample.filter(({ label }) => label === 'few')).toHaveLength(4);
  });
});

describe('readData', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'attenuate-data-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('holds out a part, or takes a test file', async () => {
    const path = join(folder, 'a.tsv');
    await writeFile(path, examples.map(({ text, label }) => `${text}\t${label}`).join('\n'));
    const held = await readData(path);
    expect(held).toMatchObject({ kind: 'labels', source: path });
    expect(held.kind === 'labels' && [held.train.length, held.test.length]).toEqual([42, 18]);
    const given = await readData(path, { test: path });
    expect(given.kind === 'labels' && [given.train.length, given.test.length]).toEqual([60, 60]);
    expect(given.hash).not.toBe(held.hash);
  });

  it('says what is wrong with a source', async () => {
    await expect(readData(join(folder, 'none.csv'))).rejects.toMatchObject({ code: 'DATA_MISSING' });
    await expect(readData('x.parquet')).rejects.toMatchObject({ code: 'DATA_FORMAT' });
    const path = join(folder, 'one.csv');
    await writeFile(path, 'text,label\na,x\nb,x\nc,x\n');
    await expect(readData(path)).rejects.toMatchObject({ code: 'DATA_TOO_FEW' });
  });
});

describe('wordnet', () => {
  it('takes the definition before examples, and the topic', () => {
    const line =
      '02086723 05 n 02 dog 0 domestic_dog 0 001 @ 02085998 n 0000 | a barking animal; "the dog barked"  ';
    expect(parseSynset(line)).toEqual({ text: 'a barking animal', label: 'noun.animal' });
    expect(parseSynset('  1 This software and database is being provided to you')).toBeNull();
  });

  it('samples every topic, deterministically and without repeats', async () => {
    const sample = await readWordnetTopics({ perClass: 20, seed: 3 });
    expect(new Set(sample.map(({ label }) => label)).size).toBe(45);
    expect(sample).toHaveLength(900);
    expect(new Set(sample.map(({ text }) => text)).size).toBe(900);
    expect(await readWordnetTopics({ perClass: 20, seed: 3 })).toEqual(sample);
  });
});

describe('calibrationTexts', () => {
  const common = { source: 'made', hash: 'h', rejected: [] };
  const labelled = (...texts: string[]) => texts.map((text) => ({ text, label: 'a' }));
  const pair = (first: string, second: string) => ({ first, second, score: 1 });

  it('are those of the training part, each once, never one that is measured on', () => {
    const labels = {
      ...common,
      kind: 'labels',
      train: labelled('a', 'b', 'a'),
      test: labelled('b', 'c'),
    } as const;
    expect(calibrationTexts(labels)).toEqual(['a']);
    expect(calibrationTexts(labels, ['c', 'd', 'b'])).toEqual(['d']);
    const pairs = { ...common, kind: 'pairs', pairs: [pair('a', 'b')] } as const;
    expect(calibrationTexts(pairs)).toEqual([]);
    expect(calibrationTexts({ ...pairs, train: [pair('b', 'c'), pair('d', 'c')] })).toEqual(['c', 'd']);
  });
});
