import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import { accuracy, chooseStrength, cosine, fitProbe, predict, spearman } from '../../src/optimize/index.ts';
import type { TextModel } from '../../src/runtime/types.ts';
import { type Mail, readMails } from '../spam.ts';

const shared = (path: string): string =>
  fileURLToPath(new URL(`../../../shared/data/${path}`, import.meta.url));

const sentences = async (file: string): Promise<string[][]> => parse(await readFile(shared(file), 'utf8'));

/** Text to calibrate on: training sentences and mails that no score is taken from. */
export async function calibrationTexts(): Promise<string[]> {
  const pairs = await sentences('stsb/train.csv');
  const mails = (await readMails(PER_LABEL, LEAST_CHARACTERS)).filter((_, i) => !isTest(i));
  const short = pairs.filter((_, i) => i % 97 === 0).map(([first]) => first);
  return [...mails.filter((_, i) => i % 12 === 0).map(({ text }) => text), ...short].slice(0, 64);
}

const PER_LABEL = 150;
/** About 400 tokens and more, of which the model sees what its length allows. */
const LEAST_CHARACTERS = 2000;
const isTest = (index: number): boolean => index % 3 === 0;

/** Spearman of cosine similarity against people's scores, STS-B dev: 1,500 pairs of short sentences. */
export async function stsbDev(model: TextModel, signal?: AbortSignal): Promise<number> {
  const pairs = await sentences('stsb/dev.csv');
  const texts = [...new Set(pairs.flatMap((pair) => pair.slice(0, 2)))];
  const vectors = await model.embed(texts, { signal });
  const byText = new Map(texts.map((text, i) => [text, vectors[i]]));
  return spearman(
    pairs.map(([first, second]) => cosine(byText.get(first)!, byText.get(second)!)),
    pairs.map(([, , score]) => Number(score)),
  );
}

export interface SpamScore {
  readonly accuracy: number;
  readonly test: number;
}

/** Accuracy of a linear probe on frozen embeddings of long mails: 200 to learn from, 100 to be tested on. */
export async function spamProbe(model: TextModel, signal?: AbortSignal): Promise<SpamScore> {
  const mails: readonly Mail[] = await readMails(PER_LABEL, LEAST_CHARACTERS);
  const vectors = await model.embed(
    mails.map(({ text }) => text),
    { signal },
  );
  const pick = (test: boolean) => mails.flatMap((mail, i) => (isTest(i) === test ? [{ mail, i }] : []));
  const [train, test] = [pick(false), pick(true)];
  const rows = train.map(({ i }) => vectors[i]);
  const labels = train.map(({ mail }) => mail.label);
  const strength = await chooseStrength(rows, labels, { seed: 1, signal });
  const probe = await fitProbe(rows, labels, { c: strength, signal });
  const predicted = predict(
    probe,
    test.map(({ i }) => vectors[i]),
  );
  return {
    accuracy: accuracy(
      predicted,
      test.map(({ mail }) => mail.label),
    ),
    test: test.length,
  };
}
