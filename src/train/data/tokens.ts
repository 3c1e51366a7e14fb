import type { Tokenizer } from '../../format/tokenizer.ts';

/** Texts as token ids, in one block. */
export interface TokenTexts {
  readonly count: number;
  /** Tokens in all. */
  readonly tokens: number;
  length(text: number): number;
  ids(text: number): Int32Array;
}

/** @param tokenizer cuts texts to its model's length */
export function tokenTexts(texts: Iterable<string>, tokenizer: Tokenizer): TokenTexts {
  let block = new Int32Array(1 << 16);
  const ends = [0];
  for (const text of texts) {
    const { ids } = tokenizer.encode(text);
    const from = ends[ends.length - 1];
    if (from + ids.length > block.length) {
      const larger = new Int32Array(Math.max(block.length * 2, from + ids.length));
      larger.set(block);
      block = larger;
    }
    block.set(ids, from);
    ends.push(from + ids.length);
  }
  return {
    count: ends.length - 1,
    tokens: ends[ends.length - 1],
    length: (text) => ends[text + 1] - ends[text],
    ids: (text) => block.subarray(ends[text], ends[text + 1]),
  };
}
