import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TokenizerSpec } from '../model/config.ts';
import { compactTokenizer, expandTokenizer } from './hugging-face-word-piece.ts';
import { createTokenizer } from './tokenizer.ts';
import { libraryTokenizer } from './tokenizer-library.ts';
import { createUnigram } from './tokenizer-unigram.ts';
import { wordPieceTokenizer } from './tokenizer-word-piece.ts';
import { Vocabulary } from './vocabulary.ts';

const MINILM = join(import.meta.dirname, '../../../shared/models/all-MiniLM-L6-v2');
const json = (name: string) => JSON.parse(readFileSync(join(MINILM, name), 'utf8'));

describe('the tokenizer of all-MiniLM-L6-v2', () => {
  const missing = !existsSync(join(MINILM, 'golden.json'));
  if (missing && process.env.CI === 'true')
    it('has its golden ids', () => expect.fail(`${MINILM}/golden.json is missing, and CI must have it`));
  else
    it.skipIf(missing)('gives the golden ids of every hard text (skipped without ../shared)', async () => {
      const spec = {
        kind: 'huggingface',
        tokenizer: json('tokenizer.json'),
        config: json('tokenizer_config.json'),
      } as const;
      const tokenizer = await createTokenizer(spec, 256);
      const { sentences } = json('golden.json') as { sentences: { text: string; ids: number[] }[] };
      expect(sentences).toHaveLength(41);
      for (const { text, ids } of sentences)
        expect(tokenizer.encode(text).ids, JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.maskId).toBe(103);
      expect(tokenizer.vocabularySize).toBe(30_522);
      expect(tokenizer.token(101)).toBe('[CLS]');
      const library = libraryTokenizer(spec, 256);
      for (let id = 0; id < 30_522; id++)
        if (tokenizer.token(id) !== library.token(id)) expect(tokenizer.token(id)).toBe(library.token(id));
    });
  it.skipIf(missing)('gives the ids of the library for any text (skipped without ../shared)', () => {
    const spec = {
      kind: 'huggingface',
      tokenizer: json('tokenizer.json'),
      config: json('tokenizer_config.json'),
    } as const;
    const compact = compactTokenizer(spec)!;
    const [ours, library] = [wordPieceTokenizer(compact, 64), libraryTokenizer(spec, 64)];
    const words = compact.vocabulary.split(' ');
    const text = anyText(
      fc.integer({ min: 0, max: words.length - 1 }).map((id) => words[id].replace(/^##/, '')),
    );
    fc.assert(
      fc.property(text, fc.option(text, { nil: undefined }), (first, second) => {
        expect(ours.encode(first, second)).toEqual(library.encode(first, second));
      }),
      { numRuns: 400 },
    );
  });
});

/** Words, pieces of them, special tokens, and characters of every kind, with and without spaces between. */
const anyText = (word: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .array(
      fc.oneof(
        { weight: 4, arbitrary: word },
        { weight: 2, arbitrary: word.map((w) => w.toUpperCase()) },
        fc.constantFrom('[MASK]', '[CLS]', '[SEP', 'mask]', '##', '[UNK][PAD]'),
        fc.constantFrom(
          'é',
          'E\u0301',
          'ß',
          'İ',
          'Σ',
          'ΑΣ',
          'ﬁ',
          '한국',
          '漢字',
          '\u{20000}',
          '𝔘',
          '👍🏽',
          'a\u200db',
        ),
        fc.constantFrom(
          '\0',
          '\ufffd',
          '\u00ad',
          '\u2028',
          '\u00a0',
          '\t',
          '\r\n',
          '\ufeff',
          '\u0085',
          '\ud800',
        ),
        fc.string({ unit: 'binary', maxLength: 8 }),
        fc.string({ unit: 'grapheme', maxLength: 8 }),
        fc.string({ maxLength: 12 }),
        fc.nat(130).map((n) => 'x'.repeat(n)),
      ),
      { maxLength: 12 },
    )
    .chain((parts) =>
      fc
        .array(fc.constantFrom('', ' ', ' ', '-'), { minLength: parts.length, maxLength: parts.length })
        .map((gaps) => parts.map((part, i) => part + gaps[i]).join('')),
    );

const WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'b', '##c'];
const special = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
const made = (changes: object = {}): TokenizerSpec => ({
  kind: 'huggingface',
  config: { mask_token: '[MASK]' },
  tokenizer: {
    truncation: { max_length: 2, strategy: 'LongestFirst', stride: 0 },
    padding: { strategy: { Fixed: 128 }, pad_id: 0, pad_token: '[PAD]' },
    added_tokens: WORDS.slice(0, 5).map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: { type: 'BertNormalizer', lowercase: true, clean_text: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0)],
      pair: [
        special('[CLS]', 0),
        sequence('A', 0),
        special('[SEP]', 0),
        sequence('B', 1),
        special('[SEP]', 1),
      ],
      special_tokens: {},
    },
    decoder: null,
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])),
    },
    ...changes,
  },
});

describe('a Hugging Face tokenizer', () => {
  it('lays out texts and pairs, special tokens in the text included', async () => {
    const tokenizer = await createTokenizer(made(), 20);
    expect(tokenizer.encode('A bc [MASK] z')).toEqual({
      ids: [2, 5, 6, 7, 4, 1, 3],
      types: [0, 0, 0, 0, 0, 0, 0],
    });
    expect(tokenizer.encode('')).toEqual({ ids: [2, 3], types: [0, 0] });
    expect(tokenizer.encode('a', 'b')).toEqual({ ids: [2, 5, 3, 6, 3], types: [0, 0, 0, 1, 1] });
    expect(tokenizer.encode('a', '')).toEqual({ ids: [2, 5, 3, 3], types: [0, 0, 0, 1] });
    expect(tokenizer.maskId).toBe(4);
  });

  it('cuts as its own longest-first rule says, with the last special token last', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(15), fc.nat(15), fc.integer({ min: 3, max: 20 }), async (m, n, most) => {
        const tokenizer = await createTokenizer(made(), most);
        const [a, b] = ['a '.repeat(m), 'b '.repeat(n)];
        const single = tokenizer.encode(a).ids;
        expect(single).toEqual([2, ...new Array(Math.min(m, most - 2)).fill(5), 3]);
        const room = most - 3;
        let [keepA, keepB] = [m, n];
        while (keepA + keepB > room && keepA !== keepB) keepA > keepB ? keepA-- : keepB--;
        if (keepA + keepB > room) {
          const [low, high] = [Math.floor(room / 2), Math.ceil(room / 2)];
          [keepA, keepB] = m > n ? [high, low] : [low, high];
        }
        expect(tokenizer.encode(a, b).ids).toEqual([
          2,
          ...new Array(keepA).fill(5),
          3,
          ...new Array(keepB).fill(6),
          3,
        ]);
      }),
    );
  });

  it('gives something to run for no text and no special tokens', async () => {
    expect((await createTokenizer(made({ post_processor: null }), 8)).encode('')).toEqual({
      ids: [1],
      types: [0],
    });
  });

  it('refuses what is no tokenizer', async () => {
    await expect(createTokenizer({ kind: 'huggingface', tokenizer: null, config: {} }, 8)).rejects.toThrow(
      expect.objectContaining({ code: 'TOKENIZER_INVALID' }),
    );
    await expect(createTokenizer(made({ model: { type: 'None' } }), 8)).rejects.toThrow(
      expect.objectContaining({ code: 'TOKENIZER_INVALID' }),
    );
    await expect(createTokenizer(made(), 2)).rejects.toThrow(
      expect.objectContaining({ code: 'TOKENIZER_LENGTH' }),
    );
  });
});

type HuggingFace = Extract<TokenizerSpec, { kind: 'huggingface' }>;
const PIECES = [
  'x',
  'xx',
  '##x',
  '##xx',
  'e',
  'é',
  '##e',
  'Σ',
  'σ',
  '漢',
  '字',
  '\u{20000}',
  '##\u{20000}',
  '-',
  '[',
  'ab',
  '##b',
];
const vocab = Object.fromEntries([...WORDS, ...PIECES].map((word, id) => [word, id]));
const varied = (
  changes: { normalizer?: object; model?: object; post_processor?: unknown; added?: object[] } = {},
) => {
  const { tokenizer, config } = made() as HuggingFace;
  const base = tokenizer as Record<string, object>;
  return {
    kind: 'huggingface',
    config,
    tokenizer: {
      ...base,
      normalizer: { ...base.normalizer, handle_chinese_chars: true, ...changes.normalizer },
      model: { ...base.model, vocab, ...changes.model },
      ...(changes.post_processor !== undefined && { post_processor: changes.post_processor }),
      added_tokens: [...(base.added_tokens as object[]), ...(changes.added ?? [])],
    },
  } as HuggingFace;
};

describe('WordPiece', () => {
  it.each([
    ['as BERT has it', varied()],
    ['with case and accents', varied({ normalizer: { lowercase: false } })],
    ['with case, without accents', varied({ normalizer: { lowercase: false, strip_accents: true } })],
    ['in lower case, with accents', varied({ normalizer: { strip_accents: false } })],
    ['not cleaned', varied({ normalizer: { clean_text: false } })],
    ['with ideographs in words', varied({ normalizer: { handle_chinese_chars: false } })],
    ['of short words', varied({ model: { max_input_chars_per_word: 5 } })],
    [
      'with tokens of its own',
      varied({
        added: [
          { id: 25, content: 'ab-c', special: true },
          { id: 26, content: 'ab-', special: true },
        ],
      }),
    ],
    [
      'in BERT’s own layout',
      varied({ post_processor: { type: 'BertProcessing', cls: ['[CLS]', 2], sep: ['[SEP]', 3] } }),
    ],
    ['without a layout', varied({ post_processor: null })],
  ])('gives the ids of the library: %s', (_name, spec) => {
    const compact = compactTokenizer(spec)!;
    expect(compact).not.toBeNull();
    const again = compactTokenizer(expandTokenizer(compact));
    expect({ ...again, added: [] }).toEqual({ ...compact, added: [] });
    expect(new Set(again!.added)).toEqual(new Set(compact.added));
    const [ours, library] = [wordPieceTokenizer(compact, 20), libraryTokenizer(spec, 20)];
    const text = anyText(fc.constantFrom(...Object.keys(vocab).map((word) => word.replace(/^##/, ''))));
    fc.assert(
      fc.property(text, fc.option(text, { nil: undefined }), (first, second) => {
        expect(ours.encode(first, second)).toEqual(library.encode(first, second));
      }),
    );
    for (const hidden of ['a\u00adb-', 'x[CLS]A\u200db-', 'ab-a\u200db- ', 'a\u00adb-c', '[S\u00adEP]'])
      expect(ours.encode(hidden)).toEqual(library.encode(hidden));
    expect(ours.vocabularySize).toBe(library.vocabularySize);
    expect(ours.maskId).toBe(library.maskId);
  });

  it.each<[string, HuggingFace]>([
    ['another model', varied({ model: { type: 'BPE' } })],
    ['ids with a gap', varied({ model: { vocab: { ...vocab, far: 99 } } })],
    ['an id twice', varied({ model: { vocab: { ...vocab, again: 5 } } })],
    ['a token with a space', varied({ model: { vocab: { ...vocab, 'a b': 25 } } })],
    ['half a character', varied({ model: { vocab: { ...vocab, '\ud800': 25 } } })],
    ['no unknown token', varied({ model: { unk_token: '<unk>' } })],
    [
      'a token that takes spaces with it',
      varied({ added: [{ id: 25, content: 'y', special: true, lstrip: true }] }),
    ],
    ['a token that is normalised', varied({ added: [{ id: 25, content: 'y' }] })],
    ['a token under another id', varied({ added: [{ id: 25, content: 'x', special: true }] })],
    ['another normaliser', varied({ normalizer: { type: 'NFC' } })],
    ['words of any length', varied({ model: { max_input_chars_per_word: 1e6 } })],
    ['another layout', varied({ post_processor: { type: 'RobertaProcessing' } })],
    [
      'a layout with a text twice',
      varied({
        post_processor: {
          type: 'TemplateProcessing',
          single: [sequence('A', 0), sequence('A', 0)],
          pair: [sequence('A', 0), sequence('B', 0)],
        },
      }),
    ],
  ])('leaves to the library: %s', (_name, spec) => {
    expect(compactTokenizer(spec)).toBeNull();
  });

  it.each([
    { unknown: 99 },
    { mask: 99 },
    { added: [-1] },
    { added: ['x'] },
    { single: [] },
    {
      single: [
        ['A', 0],
        ['B', 0],
      ],
    },
    { pair: [['A', 0]] },
    {
      single: [
        ['A', 0],
        [99, 0],
      ],
    },
    {
      pair: [
        ['A', 0],
        ['B', 0.5],
      ],
    },
  ] as object[])('refuses %j', (change) => {
    const spec = { ...compactTokenizer(varied())!, ...change };
    expect(() => wordPieceTokenizer(spec, 20)).toThrow(
      expect.objectContaining({ code: 'TOKENIZER_INVALID' }),
    );
  });

  it('finds every token of a vocabulary, and no other', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(
          fc.string({
            unit: fc.constantFrom('a', 'b', 'é', '漢', '##', '\u{20000}'),
            minLength: 1,
            maxLength: 4,
          }),
          { minLength: 1 },
        ),
        (tokens) => {
          const vocabulary = new Vocabulary(tokens.join(' '));
          expect(vocabulary.size).toBe(tokens.length);
          for (const [id, token] of tokens.entries()) {
            expect(vocabulary.idOf(token)).toBe(id);
            expect(vocabulary.token(id)).toBe(token);
            if (!tokens.includes(`${token}a`)) expect(vocabulary.idOf(`${token}a`)).toBe(-1);
          }
          expect(vocabulary.idOf('zzz')).toBe(-1);
          expect([vocabulary.token(-1), vocabulary.token(tokens.length)]).toEqual(['', '']);
        },
      ),
    );
  });
});

describe('unigram', () => {
  const pieces: [string, number][] = [
    ['�', 0],
    ['<s>', 0],
    ['▁', -5],
    ['▁a', -2],
    ['▁ab', -2.5],
    ['a', -4],
    ['b', -1],
    ['bc', -6],
    ['c', -4],
  ];
  const model = createUnigram(pieces, 2);
  const words = (text: string) => model.encode(text).map((id) => model.pieces[id]);

  it('takes the segmentation with the best score', () => {
    expect(words('ab')).toEqual(['▁ab']);
    expect(words('abc b')).toEqual(['▁ab', 'c', '▁', 'b']);
  });

  it('finds no better score by trying every segmentation', () => {
    const score = new Map(pieces.slice(2));
    const bestOf = (text: string): number =>
      text === ''
        ? 0
        : Math.max(
            ...[...score].map(([piece, s]) =>
              text.startsWith(piece) ? s + bestOf(text.slice(piece.length)) : -Infinity,
            ),
          );
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' '), minLength: 1, maxLength: 9 }),
        (text) => {
          const got = words(text);
          expect(got.join('')).toBe(`▁${text.replaceAll(' ', '▁')}`);
          expect(got.reduce((sum, piece) => sum + score.get(piece)!, 0)).toBeCloseTo(bestOf(got.join('')), 9);
        },
      ),
    );
  });

  it('merges a run of what it does not know, normalises, and never returns nothing', () => {
    expect(words('x😀y b')).toEqual(['▁', '�', '▁', 'b']);
    expect(words('\u{1D41A}')).toEqual(['▁a']);
    expect(words('')).toEqual(['▁']);
    expect(words('<s>').includes('<s>')).toBe(false);
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => model.encode(text).length > 0));
  });

  it('knows no pairs, and cuts to the maximal length', async () => {
    const tokenizer = await createTokenizer({ kind: 'unigram', vocabulary: pieces, reserved: 2 }, 3);
    expect(tokenizer.encode('b b b b').ids).toHaveLength(3);
    expect(() => tokenizer.encode('a', 'b')).toThrow(expect.objectContaining({ code: 'TOKENIZER_PAIR' }));
  });

  it.each([
    [[], 1],
    [[['a', Number.NaN]], 1],
    [[['a', 0]], 0],
    [[['a', 0]], 2],
  ] as const)('refuses the vocabulary %j with %i reserved', (vocabulary, reserved) => {
    expect(() => createUnigram(vocabulary, reserved)).toThrow(
      expect.objectContaining({ code: 'TOKENIZER_INVALID' }),
    );
  });
});
