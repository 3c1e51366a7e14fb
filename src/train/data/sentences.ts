/** Shortest and longest sentence kept, in characters. */
export interface SentenceBounds {
  readonly least: number;
  readonly most: number;
}

const segmenter = new Intl.Segmenter('en', { granularity: 'sentence' });

/** Runs of white space become one space; what is around the text goes. */
export const tidy = (text: string): string => text.replace(/\s+/g, ' ').trim();

/** The sentences of a text by Unicode's rules (UAX 29), tidied, those outside the bounds left out. */
export function* sentences(text: string, { least, most }: SentenceBounds): Iterable<string> {
  for (const { segment } of segmenter.segment(tidy(text))) {
    const sentence = segment.trim();
    if (sentence.length >= least && sentence.length <= most) yield sentence;
  }
}

/** Each text once, whatever its case: the first of equal ones stays. */
export function* distinct(texts: Iterable<string>): Iterable<string> {
  const seen = new Set<string>();
  for (const text of texts) {
    const key = text.toLowerCase();
    if (seen.has(key)) continue;
    seen.add(key);
    yield text;
  }
}
