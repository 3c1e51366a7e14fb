import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import type { TokenizerSpec } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Tokenizer } from './tokenizer.ts';
import { cutToFit, noRoom } from './tokenizer-cut.ts';

const invalid = (expected: string, got: unknown, cause?: unknown) =>
  new AttenuateError(
    'TOKENIZER_INVALID',
    `[tokenizer] bad tokenizer: expected ${expected}, got ${got}. Use the tokenizer that came with the model.`,
    { expected },
    { cause },
  );

// Stand for the tokens of either text while the post-processor lays out the special tokens round them.
const FIRST = '\u0000first';
const SECOND = '\u0000second';

/** As `createTokenizer`, of any `tokenizer.json`, by Hugging Face's own library. */
export function libraryTokenizer(
  spec: Extract<TokenizerSpec, { kind: 'huggingface' }>,
  maxLength: number,
): Tokenizer {
  const { tokenizer, specialId, vocabulary } = build(spec);
  const unknown = tokenizer.model?.unk_token_id;

  const layout = (first: number, second: number | null): { tokens: string[]; types: number[] } => {
    const a = new Array<string>(first).fill(FIRST);
    const b = second === null ? null : new Array<string>(second).fill(SECOND);
    if (!tokenizer.post_processor)
      return { tokens: [...a, ...(b ?? [])], types: [...a, ...(b ?? [])].map(() => 0) };
    const { tokens, token_type_ids: types } = tokenizer.post_processor(a, b, true);
    return { tokens, types: types ?? tokens.map(() => 0) };
  };
  const specials = (pair: boolean): number => layout(0, pair ? 0 : null).tokens.length;
  const idsOf = (text: string): number[] =>
    tokenizer.encode(text, { add_special_tokens: false }).ids.map((id: number) => {
      if (Number.isInteger(id) && id >= 0) return id;
      throw invalid('an unknown token for text outside the vocabulary', 'none');
    });

  if (specials(false) >= maxLength) throw noRoom(specials(false), maxLength);

  return {
    encode(first, second) {
      const a = idsOf(first);
      const b = second === undefined ? null : idsOf(second);
      const room = Math.max(0, maxLength - specials(b !== null));
      cutToFit(a, b, room);
      const { tokens, types } = layout(a.length, b ? b.length : null);
      let [nextA, nextB] = [0, 0];
      const ids = tokens.map((token) =>
        token === FIRST ? a[nextA++] : token === SECOND ? b![nextB++] : specialId(token),
      );
      if (ids.length > 0) return { ids, types };
      if (unknown === undefined) throw invalid('an unknown token for empty text', 'none');
      return { ids: [unknown], types: [0] };
    },
    token: (id) => vocabulary[id] ?? '',
    maskId: maskOf(spec.config, tokenizer),
    vocabularySize: vocabulary.length,
  };
}

function build(spec: Extract<TokenizerSpec, { kind: 'huggingface' }>) {
  if (typeof spec.tokenizer !== 'object' || spec.tokenizer === null)
    throw invalid('an object', typeof spec.tokenizer);
  let tokenizer: HuggingFaceTokenizer;
  try {
    // The constructor keeps and may write to what it is given.
    const copy = { added_tokens: [], ...structuredClone(spec.tokenizer) };
    tokenizer = new HuggingFaceTokenizer(copy, structuredClone(spec.config) ?? {});
  } catch (error) {
    throw invalid('the contents of a tokenizer.json', error instanceof Error ? error.message : error, error);
  }
  const vocabulary = tokenizer.model?.vocab;
  if (!Array.isArray(vocabulary) || vocabulary.length === 0) throw invalid('a vocabulary', 'none');
  const specialId = (token: string): number => {
    const id = tokenizer.token_to_id(token);
    if (id === undefined) throw invalid('special tokens from the vocabulary', JSON.stringify(token));
    return id;
  };
  return { tokenizer, specialId, vocabulary };
}

function maskOf(config: unknown, tokenizer: HuggingFaceTokenizer): number | null {
  const value = (config as { mask_token?: unknown } | null)?.mask_token;
  const content =
    typeof value === 'string' ? value : ((value as { content?: unknown } | null)?.content ?? '[MASK]');
  return typeof content === 'string' ? (tokenizer.token_to_id(content) ?? null) : null;
}
