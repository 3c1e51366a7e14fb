import type { TokenizerSpec, TokenTemplate } from '../model/config.ts';
import type { WordPieceSpec } from './tokenizer-word-piece.ts';

type HuggingFaceSpec = Extract<TokenizerSpec, { kind: 'huggingface' }>;

/** Most code points of a word that is cut into pieces: the time goes with their square. */
export const LONGEST_WORD = 1000;

type Json = Readonly<Record<string, unknown>>;
const isObject = (x: unknown): x is Json => typeof x === 'object' && x !== null && !Array.isArray(x);

/**
 * A `tokenizer.json` of plain BERT form as what it says: a tenth of its bytes once it is parsed. Null where it says
 * anything that `wordPieceTokenizer` does not do.
 */
export function compactTokenizer(spec: HuggingFaceSpec): WordPieceSpec | null {
  const json = isObject(spec.tokenizer) ? spec.tokenizer : {};
  const config = isObject(spec.config) ? spec.config : {};
  const { model, normalizer, pre_tokenizer: splitter } = json as Record<string, unknown>;
  if (
    !isObject(model) ||
    model.type !== 'WordPiece' ||
    model.fuse_unk ||
    !isObject(model.vocab) ||
    !isObject(normalizer) ||
    normalizer.type !== 'BertNormalizer' ||
    !isObject(splitter) ||
    splitter.type !== 'BertPreTokenizer' ||
    config.remove_space ||
    config.do_lowercase_and_remove_accent
  )
    return null;
  const added = addedOf(json.added_tokens ?? []);
  if (!added) return null;
  const ids = new Map([
    ...Object.entries(model.vocab),
    ...added.map(({ content, id }) => [content, id] as const),
  ]);
  // Each id once, from 0 on; a token that the vocabulary has under another id would be found under both.
  const tokens = new Array<string>(ids.size);
  for (const [token, id] of ids) tokens[id as number] = token;
  const vocab = model.vocab;
  if (
    Object.keys(tokens).length !== ids.size ||
    tokens.length !== ids.size ||
    !tokens.every((token) => !/\p{Cs}| /u.test(token)) ||
    added.some(({ content, id }) => Object.hasOwn(vocab, content) && vocab[content] !== id)
  )
    return null;
  const templates = templatesOf(json.post_processor, ids as ReadonlyMap<string, number>);
  const {
    unk_token: unknown,
    continuing_subword_prefix: prefix,
    max_input_chars_per_word: longest = 100,
  } = model;
  if (
    !templates ||
    typeof unknown !== 'string' ||
    !ids.has(unknown) ||
    typeof prefix !== 'string' ||
    !Number.isInteger(longest) ||
    !((longest as number) <= LONGEST_WORD)
  )
    return null;
  const lowercase = !!normalizer.lowercase;
  const accents = normalizer.strip_accents;
  return {
    kind: 'wordPiece',
    vocabulary: tokens.join(' '),
    unknown: ids.get(unknown) as number,
    prefix,
    longestWord: longest as number,
    cleanText: !!normalizer.clean_text,
    ideographs: !!normalizer.handle_chinese_chars,
    lowercase,
    stripAccents: lowercase ? accents !== false : !!accents,
    added: added.map(({ id }) => id),
    mask: maskOf(config, ids as ReadonlyMap<string, number>),
    ...templates,
  };
}

function addedOf(list: unknown): { content: string; id: number }[] | null {
  if (!Array.isArray(list)) return null;
  const plain = list.every(
    (token) =>
      isObject(token) &&
      typeof token.content === 'string' &&
      token.content !== '' &&
      Number.isInteger(token.id) &&
      !(token.normalized ?? !token.special) &&
      !token.lstrip &&
      !token.rstrip,
  );
  return plain ? list : null;
}

type Templates = Pick<WordPieceSpec, 'single' | 'pair'>;

function templatesOf(processor: unknown, ids: ReadonlyMap<string, number>): Templates | null {
  if (processor === null || processor === undefined)
    return {
      single: [['A', 0]],
      pair: [
        ['A', 0],
        ['B', 0],
      ],
    };
  if (!isObject(processor)) return null;
  if (processor.type === 'BertProcessing') {
    const of = (token: unknown) => (Array.isArray(token) ? ids.get(token[0]) : undefined);
    const [cls, sep] = [of(processor.cls), of(processor.sep)];
    if (cls === undefined || sep === undefined) return null;
    const single: TokenTemplate[] = [
      [cls, 0],
      ['A', 0],
      [sep, 0],
    ];
    return { single, pair: [...single, ['B', 1], [sep, 1]] };
  }
  if (processor.type !== 'TemplateProcessing') return null;
  const [single, pair] = [templateOf(processor.single, ids), templateOf(processor.pair, ids)];
  const count = (template: TokenTemplate[] | null, part: string) =>
    template?.filter(([token]) => token === part).length;
  const once =
    count(single, 'A') === 1 && count(single, 'B') === 0 && count(pair, 'A') === 1 && count(pair, 'B') === 1;
  return once ? { single: single!, pair: pair! } : null;
}

function templateOf(items: unknown, ids: ReadonlyMap<string, number>): TokenTemplate[] | null {
  if (!Array.isArray(items)) return null;
  const out: TokenTemplate[] = [];
  for (const item of items) {
    const { SpecialToken: special, Sequence: sequence } = (item ?? {}) as Record<string, Json | undefined>;
    const token = special ? ids.get(special.id as string) : sequence?.id;
    const type = (special ?? sequence)?.type_id;
    if ((typeof token !== 'number' && token !== 'A' && token !== 'B') || !Number.isInteger(type)) return null;
    out.push([token, type as number]);
  }
  return out;
}

function maskOf({ mask_token: given }: Json, ids: ReadonlyMap<string, number>): number | null {
  const content = typeof given === 'string' ? given : isObject(given) ? given.content : '[MASK]';
  return typeof content === 'string' ? (ids.get(content) ?? null) : null;
}

/** The `tokenizer.json` and `tokenizer_config.json` that say what a compact specification does. */
export function expandTokenizer(spec: WordPieceSpec): HuggingFaceSpec {
  const tokens = spec.vocabulary.split(' ');
  const items = (template: readonly TokenTemplate[]) =>
    template.map(([token, type_id]) =>
      typeof token === 'number'
        ? { SpecialToken: { id: tokens[token], type_id } }
        : { Sequence: { id: token, type_id } },
    );
  const named = [...spec.single, ...spec.pair].flatMap(([token]) =>
    typeof token === 'number' ? [token] : [],
  );
  return {
    kind: 'huggingface',
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: spec.added.map((id) => ({
        id,
        content: tokens[id],
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: {
        type: 'BertNormalizer',
        clean_text: spec.cleanText,
        handle_chinese_chars: spec.ideographs,
        strip_accents: spec.stripAccents,
        lowercase: spec.lowercase,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single: items(spec.single),
        pair: items(spec.pair),
        special_tokens: Object.fromEntries(
          named.map((id) => [tokens[id], { id: tokens[id], ids: [id], tokens: [tokens[id]] }]),
        ),
      },
      decoder: { type: 'WordPiece', prefix: spec.prefix, cleanup: true },
      model: {
        type: 'WordPiece',
        unk_token: tokens[spec.unknown],
        continuing_subword_prefix: spec.prefix,
        max_input_chars_per_word: spec.longestWord,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      },
    },
    config: spec.mask === null ? { mask_token: null } : { mask_token: tokens[spec.mask] },
  };
}
