import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';

export interface Labelled {
  readonly text: string;
  readonly label: string;
}

export interface Task {
  readonly name: string;
  /** What accuracy is measured on: never trained on, and nothing is chosen by it. */
  readonly measuredOn: string;
  /** How a classifier is fine-tuned on its labels. */
  readonly finetune: { readonly epochs: number; readonly learningRate: number };
  readonly train: readonly Labelled[];
  readonly test: readonly Labelled[];
}

const tidy = (text: string) => text.replace(/\s+/g, ' ').trim();

async function csv(path: string): Promise<Labelled[]> {
  const rows: { text: string; category: string }[] = parse(await readFile(path, 'utf8'), { columns: true });
  return rows.map(({ text, category }) => ({ text: tidy(text), label: category }));
}

async function tsv(path: string): Promise<Labelled[]> {
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line.includes('\t'));
  return lines.map((line) => {
    const cut = line.lastIndexOf('\t');
    return { text: tidy(line.slice(0, cut)), label: line.slice(cut + 1).trim() };
  });
}

/** @param data the folder that holds `sst2` and `banking77` */
export const TASKS: Readonly<Record<string, (data: string) => Promise<Task>>> = {
  sst2: async (data) => ({
    name: 'SST-2',
    measuredOn: 'development set, 872 sentences',
    finetune: { epochs: 3, learningRate: 1e-4 },
    train: await tsv(join(data, 'sst2/train.tsv')),
    test: await tsv(join(data, 'sst2/dev.tsv')),
  }),
  banking77: async (data) => ({
    name: 'banking77',
    measuredOn: 'test set, 3,080 questions',
    finetune: { epochs: 6, learningRate: 2e-4 },
    train: await csv(join(data, 'banking77/train.csv')),
    test: await csv(join(data, 'banking77/test.csv')),
  }),
};
