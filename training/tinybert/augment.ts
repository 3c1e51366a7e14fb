import { Random } from '../../src/tensor/random.ts';

/** Share of words that another word of the texts takes the place of. */
const REPLACED = 0.15;

/**
 * Texts beside those that there are, without labels: each is one of them with some words replaced by words of the
 * others, as often as those occur, and by chance cut at one end (after Jiao et al. 2020, algorithm 1, without a
 * language model).
 */
export function augmented(texts: readonly string[], times: number, seed: number): string[] {
  const random = new Random(seed);
  const words = texts.flatMap((text) => text.split(' '));
  return Array.from({ length: times }, () => texts)
    .flat()
    .map((text) => {
      const own = text
        .split(' ')
        .map((word) => (random.uniform() < REPLACED ? words[random.integer(words.length)] : word));
      const cut = random.uniform() < 0.3 ? random.integer(own.length >> 1) : 0;
      return (random.uniform() < 0.5 ? own.slice(cut) : own.slice(0, own.length - cut)).join(' ');
    });
}
