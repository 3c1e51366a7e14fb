import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TokenizerSpec } from '../model/config.ts';
import { createTokenizer } from './tokenizer.ts';
import { createUnigram } from './tokenizer-unigram.ts';

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
    });
});

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
