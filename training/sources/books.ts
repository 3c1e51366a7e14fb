import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sentences } from '../../src/train/data/sentences.ts';
import type { Source } from './source.ts';

function book(name: string, dataset: string): Source {
  const folder = fileURLToPath(new URL(`../node_modules/@stdlib/${dataset}/data/`, import.meta.url));
  return {
    name,
    licence: 'public domain (CC0-1.0)',
    origin: `npm @stdlib/${dataset}`,
    async *texts() {
      for (const file of (await readdir(folder)).sort())
        if (file.endsWith('.txt'))
          yield* sentences(await readFile(`${folder}${file}`, 'utf8'), { least: 16, most: 220 });
    },
  };
}

export const mobyDick = book('Moby-Dick (Herman Melville, 1851): sentences', 'datasets-moby-dick');
export const addresses = book('State of the Union addresses: sentences', 'datasets-sotu');
