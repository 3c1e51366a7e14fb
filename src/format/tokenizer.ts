import type { TokenizerSpec } from '../model/config.ts';
import { wordPieceTokenizer } from './tokenizer-word-piece.ts';

export interface EncodedText {
  readonly ids: number[];
  /** Token type of each id: 0, and 1 in the second text of a pair. */
  readonly types: number[];
}

export interface Tokenizer {
  /** Ids with special tokens, cut to the maximal length; never empty. @throws `TOKENIZER_PAIR` where the model knows no pairs */
  encode(first: string, second?: string): EncodedText;
  /** The token's text, `''` for an id that has none. */
  token(id: number): string;
  /** The id of the mask token, where there is one. */
  readonly maskId: number | null;
  /** One more than the highest id. */
  readonly vocabularySize: number;
}

/**
 * Rebuilds a tokenizer. Truncation and padding inside a `tokenizer.json` are not used: a text longer than
 * `maxLength` tokens loses tokens at its end, before the closing special token. Of a pair the longer text (the second,
 * when both are equal) loses first, and once both have to lose it keeps half the room, rounded up: the library's
 * `longest_first`.
 * @throws `TOKENIZER_INVALID`, `TOKENIZER_LENGTH` when `maxLength` has no room for the special tokens
 */
export async function createTokenizer(spec: TokenizerSpec, maxLength: number): Promise<Tokenizer> {
  if (spec.kind === 'wordPiece') return wordPieceTokenizer(spec, maxLength);
  if (spec.kind === 'unigram')
    return (await import('./tokenizer-unigram.ts')).unigramTokenizer(spec, maxLength);
  const compact = (await import('./hugging-face-word-piece.ts')).compactTokenizer(spec);
  if (compact) return wordPieceTokenizer(compact, maxLength);
  return (await import('./tokenizer-library.ts')).libraryTokenizer(spec, maxLength);
}
