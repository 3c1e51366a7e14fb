import type { TokenizerSpec, TokenTemplate } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Tokenizer } from './tokenizer.ts';
import { cutToFit, noRoom } from './tokenizer-cut.ts';
import { Vocabulary } from './vocabulary.ts';

export type WordPieceSpec = Extract<TokenizerSpec, { kind: 'wordPiece' }>;

/** What BERT splits a text at, besides white space: Unicode's punctuation and all of ASCII that is neither letter nor digit. */
const WORDS = /[^\s\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu;
const CONTROL = /[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;
/** As the library has them: those of 16 bits. */
const IDEOGRAPHS = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]/g;

/**
 * BERT's tokenizer (Devlin et al. 2018): text cleaned, lowered and stripped of accents as the model was trained, split
 * at white space and punctuation, then each word cut greedily into the longest pieces of the vocabulary (Wu et al.
 * 2016, section 4.1). Ids are those of Hugging Face's library.
 * @throws `TOKENIZER_INVALID`, `TOKENIZER_LENGTH`
 */
export function wordPieceTokenizer(spec: WordPieceSpec, maxLength: number): Tokenizer {
  const vocabulary = new Vocabulary(spec.vocabulary);
  check(spec, vocabulary.size);
  const specials = (template: readonly TokenTemplate[]) =>
    template.filter(([token]) => typeof token === 'number').length;
  if (specials(spec.single) >= maxLength) throw noRoom(specials(spec.single), maxLength);
  const added = addedTokens(spec, vocabulary);
  const idsOf = (text: string): number[] => {
    const ids: number[] = [];
    let at = 0;
    for (const match of added ? text.matchAll(added) : []) {
      pieces(text.slice(at, match.index), ids);
      ids.push(vocabulary.idOf(match[0]));
      at = match.index + match[0].length;
    }
    pieces(text.slice(at), ids);
    return ids;
  };
  const pieces = (text: string, ids: number[]) => {
    const clean = normalized(spec, text);
    // What is such a token once it is cleaned counts as one, where nothing else stands beside it.
    const whole = spec.added.find((id) => clean !== '' && vocabulary.token(id) === clean);
    if (whole !== undefined) ids.push(whole);
    else for (const word of clean.match(WORDS) ?? []) wordPieces(spec, vocabulary, word, ids);
  };
  return {
    encode(first, second) {
      const a = idsOf(first);
      const b = second === undefined ? null : idsOf(second);
      const template = b ? spec.pair : spec.single;
      cutToFit(a, b, Math.max(0, maxLength - specials(template)));
      const ids: number[] = [];
      const types: number[] = [];
      for (const [token, type] of template)
        for (const id of token === 'A' ? a : token === 'B' ? b! : [token]) {
          ids.push(id);
          types.push(type);
        }
      return ids.length > 0 ? { ids, types } : { ids: [spec.unknown], types: [0] };
    },
    token: (id) => vocabulary.token(id),
    maskId: spec.mask,
    vocabularySize: vocabulary.size,
  };
}

function normalized(
  { cleanText, ideographs, lowercase, stripAccents }: WordPieceSpec,
  given: string,
): string {
  let text = given;
  if (cleanText) text = text.replace(CONTROL, '');
  if (ideographs) text = text.replace(IDEOGRAPHS, ' $& ');
  if (lowercase) text = text.toLowerCase();
  return stripAccents ? text.normalize('NFD').replace(/\p{Mn}/gu, '') : text;
}

/** Pieces are cut between code points, never inside one. */
const isInside = (word: string, at: number): boolean =>
  at > 0 && (word.charCodeAt(at) & 0xfc00) === 0xdc00 && (word.charCodeAt(at - 1) & 0xfc00) === 0xd800;

function wordPieces(
  { prefix, unknown, longestWord }: WordPieceSpec,
  vocabulary: Vocabulary,
  word: string,
  ids: number[],
): void {
  const before = ids.length;
  const hashes = new Int32Array(word.length + 1);
  const length = word.length > longestWord ? [...word].length : word.length;
  for (let from = 0; length <= longestWord && from < word.length; ) {
    const start = from === 0 ? '' : prefix;
    vocabulary.hashes(start, word, from, hashes);
    let [to, id] = [word.length, -1];
    for (; to > from; to--)
      if (!isInside(word, to) && (id = vocabulary.lookUp(hashes[to], start, word, from, to)) >= 0) break;
    if (id < 0) {
      ids.length = before;
      break;
    }
    ids.push(id);
    from = to;
  }
  if (ids.length === before) ids.push(unknown);
}

/** Finds the tokens that stand in a text as they are, of several that start at one place the longest. */
function addedTokens({ added }: WordPieceSpec, vocabulary: Vocabulary): RegExp | null {
  const tokens = added.map((id) => vocabulary.token(id)).filter((token) => token !== '');
  if (tokens.length === 0) return null;
  const escaped = tokens
    .sort((a, b) => b.length - a.length)
    .map((token) => token.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
  return new RegExp(escaped.join('|'), 'g');
}

function check(spec: WordPieceSpec, size: number): void {
  const { unknown, mask, added, single, pair } = spec;
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < size;
  const isTemplate = (template: readonly TokenTemplate[]) =>
    template.every(
      ([token, type]) => (token === 'A' || token === 'B' || isId(token)) && Number.isInteger(type),
    ) && template.filter(([token]) => token === 'A').length === 1;
  const good =
    [unknown, ...added, ...(mask === null ? [] : [mask])].every(isId) &&
    isTemplate(single) &&
    isTemplate(pair) &&
    single.every(([token]) => token !== 'B') &&
    pair.filter(([token]) => token === 'B').length === 1;
  if (!good)
    throw new AttenuateError(
      'TOKENIZER_INVALID',
      `[tokenizer] bad tokenizer: expected ids below ${size} and templates of A and B, got others. Use the tokenizer that came with the model.`,
      {},
    );
}
