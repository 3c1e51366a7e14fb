import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../src/format/node/whole-file.ts';
import { Random } from '../../src/tensor/random.ts';
import { distinct } from '../../src/train/data/sentences.ts';
import { banking77 } from '../sources/banking77.ts';
import { addresses, mobyDick } from '../sources/books.ts';
import { composed } from '../sources/composed.ts';
import { mails } from '../sources/mails.ts';
import type { Source } from '../sources/source.ts';
import { definitions, examples, words } from '../sources/wordnet.ts';

export interface SourceCount extends Pick<Source, 'name' | 'licence' | 'origin'> {
  readonly texts: number;
}

export interface Corpus {
  readonly texts: readonly string[];
  readonly sources: readonly SourceCount[];
  /** SHA-256 of the texts. */
  readonly hash: string;
}

/** Texts in all: as many as the teacher can embed in half an hour. */
const TEXTS = 200_000;
const SCENES = 20_000;
const SEED = 1;

/** Every text once, in a random order that never changes; made once and kept at `path`. */
export async function readCorpus(path: string, banking: string): Promise<Corpus> {
  if (existsSync(path)) return JSON.parse(await readFile(path, 'utf8'));
  // Everything would take the teacher hours: what reads like everyday sentences comes whole, the rest in part.
  const all: [source: Source, most: number][] = [
    [examples, Number.POSITIVE_INFINITY],
    [definitions, 60_000],
    [words, 20_000],
    [composed(SCENES, SEED), Number.POSITIVE_INFINITY],
    [mails, 40_000],
    [mobyDick, 5_000],
    [addresses, 15_000],
  ];
  if (existsSync(banking)) all.push([banking77(banking), Number.POSITIVE_INFINITY]);
  const random = new Random(SEED);
  const sourceOf = new Map<string, Source>();
  const texts: string[] = [];
  for (const [source, most] of all) {
    const found: string[] = [];
    for await (const text of source.texts()) found.push(text);
    const unique = [...distinct(found)];
    for (const i of random.permutation(unique.length).subarray(0, most)) {
      texts.push(unique[i]);
      if (!sourceOf.has(unique[i])) sourceOf.set(unique[i], source);
    }
  }
  const unique = [...distinct(texts)];
  const order = Array.from(random.permutation(unique.length).subarray(0, TEXTS), (i) => unique[i]);
  const sources = all.map(([source]): SourceCount => {
    const { name, licence, origin } = source;
    return { name, licence, origin, texts: order.filter((text) => sourceOf.get(text) === source).length };
  });
  const hash = createHash('sha256').update(order.join('\n')).digest('hex');
  const corpus = { texts: order, sources, hash };
  await writeWhole(path, [JSON.stringify(corpus)]);
  return corpus;
}
