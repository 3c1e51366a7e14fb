import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import { chooseStrength, cosine, fitProbe, predict, spearman } from '../../src/optimize/index.ts';
import type { TextModel } from '../../src/runtime/types.ts';
import { type Mail, readMails } from '../spam.ts';

const shared = (path: string): string =>
  fileURLToPath(new URL(`../../../shared/data/${path}`, import.meta.url));

const sentences = async (file: string): Promise<string[][]> => parse(await readFile(shared(file), 'utf8'));

/** About 400 tokens and more, of which the model sees what its length allows. */
const LEAST_CHARACTERS = 2000;
/** Mails that are scored, and those that calibration sees: others. */
const [SCORED_PER_LABEL, CALIBRATION_PER_LABEL] = [300, 9];
const CALIBRATION_SENTENCES = 46;
const FOLDS = 5;
/** Mails that are scored. */
export const SCORED_MAILS = 2 * SCORED_PER_LABEL;

async function longMails(): Promise<{ scored: readonly Mail[]; calibration: readonly Mail[] }> {
  const all = await readMails(SCORED_PER_LABEL + CALIBRATION_PER_LABEL, LEAST_CHARACTERS);
  const labels = ['ham', 'spam'].map((label) => all.filter((mail) => mail.label === label));
  return {
    scored: labels.flatMap((mails) => mails.slice(0, SCORED_PER_LABEL)),
    calibration: labels.flatMap((mails) => mails.slice(SCORED_PER_LABEL)),
  };
}

/** Longest piece of a document that is trained on, in characters: about 256 tokens. */
const PIECE = 1200;
/** Mails of each label that documents to train on come from, and how many of those are taken. */
const [TRAINING_MAILS, DOCUMENTS] = [1200, 640];

/** Long text to train on: beginnings of mails that no score is taken from. */
export async function trainingDocuments(): Promise<string[]> {
  const { scored } = await longMails();
  const measured = new Set(scored.map(({ text }) => text));
  const mails = (await readMails(TRAINING_MAILS, PIECE)).filter(({ text }) => !measured.has(text));
  const every = Math.max(1, Math.floor(mails.length / DOCUMENTS));
  return mails.filter((_, i) => i % every === 0).map(({ text }) => text.slice(0, PIECE));
}

/** Words of a half, and mails that are cut. */
const HALF = 150;
const HALVED = 150;

/** Scored mails in two halves: the first words, and as many that follow. */
export async function mailHalves(): Promise<{ first: string[]; second: string[] }> {
  const { scored } = await longMails();
  const words = scored
    .map(({ text }) => text.split(' '))
    .filter(({ length }) => length >= 2 * HALF)
    .slice(0, HALVED);
  return {
    first: words.map((all) => all.slice(0, HALF).join(' ')),
    second: words.map((all) => all.slice(HALF, 2 * HALF).join(' ')),
  };
}

/** For each second half whether its own first half is the nearest of all. */
export function halvesFound(first: readonly Float32Array[], second: readonly Float32Array[]): boolean[] {
  return second.map((row, i) => {
    const scores = first.map((other) => cosine(row, other));
    return scores.indexOf(Math.max(...scores)) === i;
  });
}

/** Text to calibrate on: training sentences, and mails that no score is taken from. */
export async function calibrationTexts(): Promise<string[]> {
  const pairs = await sentences('stsb/train.csv');
  const { calibration } = await longMails();
  const short = pairs.filter((_, i) => i % 97 === 0).map(([first]) => first);
  return [...calibration.map(({ text }) => text), ...short.slice(0, CALIBRATION_SENTENCES)];
}

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

/**
 * Whether a linear probe on frozen embeddings of long mails tells each one's label, always the same mails in the same
 * order: five times over, one fifth is scored by what was learnt, strength included, from the others.
 */
export async function spamProbe(model: TextModel, signal?: AbortSignal): Promise<boolean[]> {
  const { scored } = await longMails();
  const vectors = await model.embed(
    scored.map(({ text }) => text),
    { signal },
  );
  const right: boolean[] = [];
  for (let fold = 0; fold < FOLDS; fold++) {
    const train = scored.flatMap(({ label }, i) => (i % FOLDS === fold ? [] : [{ label, row: vectors[i] }]));
    const rows = train.map(({ row }) => row);
    const labels = train.map(({ label }) => label);
    const strength = await chooseStrength(rows, labels, { seed: 1, signal });
    const probe = await fitProbe(rows, labels, { c: strength, signal });
    for (let i = fold; i < scored.length; i += FOLDS)
      right[i] = predict(probe, [vectors[i]])[0] === scored[i].label;
  }
  return right;
}
