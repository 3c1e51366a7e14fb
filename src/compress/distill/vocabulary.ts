import { expandTokenizer } from '../../format/hugging-face-word-piece.ts';
import type { TokenizerSpec } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';

type HuggingFaceSpec = Extract<TokenizerSpec, { kind: 'huggingface' }>;

/** The parts of a `tokenizer.json` that hold ids. */
interface TokenizerJson {
  readonly model: { readonly type?: string; readonly vocab: Readonly<Record<string, number>> };
  readonly added_tokens?: readonly { readonly id: number; readonly content: string }[];
  readonly post_processor?: unknown;
}

export interface PrunedVocabulary {
  readonly tokenizer: TokenizerSpec;
  /** The teacher's id of each token that is left, ascending: row i of the student's table is row `kept[i]`. */
  readonly kept: Int32Array;
}

const isSpecial = (token: string): boolean => /^\[[A-Z]+\]$/.test(token);
const isUnused = (token: string): boolean => /^\[unused\d+\]$/.test(token);
const isPiece = (token: string): boolean => [...token.replace(/^##/, '')].length === 1;

/**
 * A WordPiece tokenizer with at most `size` tokens: special tokens, every single character and continuation, so that no
 * text becomes unknown that was not before, then what occurs most often, then the teacher's own order.
 * @param counts occurrences of each of the teacher's ids in the text
 * @throws `VOCABULARY_UNSUPPORTED` for another kind of tokenizer, `VOCABULARY_SIZE` when the single characters alone
 *   are more than `size`
 */
export function pruneVocabulary(
  spec: TokenizerSpec | null,
  size: number,
  counts: ArrayLike<number>,
): PrunedVocabulary {
  const full = spec?.kind === 'wordPiece' ? expandTokenizer(spec) : spec;
  const json = full?.kind === 'huggingface' ? (full.tokenizer as TokenizerJson) : null;
  const vocabulary = json?.model?.vocab;
  if (!json || typeof vocabulary !== 'object' || (json.model.type && json.model.type !== 'WordPiece'))
    throw new AttenuateError(
      'VOCABULARY_UNSUPPORTED',
      `[distill] vocabulary that cannot be pruned: expected a WordPiece tokenizer, got ${json?.model?.type ?? spec?.kind ?? 'none'}. Leave "vocabulary" out.`,
    );
  const tokens = Object.entries(vocabulary).sort(([, a], [, b]) => a - b);
  const added = new Set((json.added_tokens ?? []).map(({ content }) => content));
  const needed = tokens.filter(([token]) => added.has(token) || isSpecial(token) || isPiece(token));
  if (needed.length > size)
    throw new AttenuateError(
      'VOCABULARY_SIZE',
      `[distill] vocabulary too small: expected at least the ${needed.length} special tokens and single characters, got ${size}. Raise "vocabulary".`,
      { size, needed: needed.length },
    );
  const must = new Set(needed.map(([token]) => token));
  const others = tokens.filter(([token]) => !must.has(token) && !isUnused(token));
  others.sort(([, a], [, b]) => (counts[b] ?? 0) - (counts[a] ?? 0) || a - b);
  const kept = Int32Array.from(
    [...needed, ...others.slice(0, size - needed.length)].map(([, id]) => id),
  ).sort();
  const idOf = new Map(Array.from(kept, (id, i) => [id, i]));
  return { kept, tokenizer: renumbered(full as HuggingFaceSpec, json, idOf) };
}

function renumbered(
  spec: HuggingFaceSpec,
  json: TokenizerJson,
  idOf: ReadonlyMap<number, number>,
): TokenizerSpec {
  const vocab = Object.fromEntries(
    Object.entries(json.model.vocab)
      .filter(([, id]) => idOf.has(id))
      .map(([token, id]) => [token, idOf.get(id)!])
      .sort(([, a], [, b]) => (a as number) - (b as number)),
  );
  return {
    ...spec,
    tokenizer: {
      ...json,
      model: { ...json.model, vocab },
      added_tokens: json.added_tokens?.map((token) => ({ ...token, id: idOf.get(token.id)! })),
      post_processor: withIds(json.post_processor, idOf),
    },
  };
}

/** A post-processor with its ids renumbered: `ids` lists of templates, and the pairs `[token, id]` of BERT's own. */
function withIds(value: unknown, idOf: ReadonlyMap<number, number>): unknown {
  if (Array.isArray(value)) {
    const [token, id] = value;
    if (value.length === 2 && typeof token === 'string' && typeof id === 'number')
      return [token, idOf.get(id)];
    return value.map((item) => withIds(item, idOf));
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      key === 'ids' && Array.isArray(inner) ? inner.map((id) => idOf.get(id)) : withIds(inner, idOf),
    ]),
  );
}
