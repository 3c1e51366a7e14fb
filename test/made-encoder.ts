import type { EncoderConfig, HeadSpec, Model, TokenizerSpec } from '../src/model/config.ts';
import { names } from '../src/model/names.ts';
import { encode, type Weight } from '../src/tensor/codec.ts';

const WORDS =
  'a small model runs in the page and node alike with every word known to it quick brown fox'.split(' ');
const SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const SIZE = 32;
const FEED_FORWARD = 64;
const LAYERS = 2;

/** A tiny BERT of random weights with a WordPiece tokenizer over a few words: real in form, without meaning. */
export function madeEncoder(
  head: HeadSpec = { kind: 'embedding', pooling: 'mean', dense: false, normalize: true },
): Model {
  const vocabulary = [...SPECIAL, ...WORDS, ...'abcdefghijklmnopqrstuvwxyz,.'].flatMap((word, i) =>
    i < SPECIAL.length || word.length > 1 ? [word] : [word, `##${word}`],
  );
  const config: EncoderConfig = {
    architecture: 'bert',
    vocabularySize: vocabulary.length,
    embeddingSize: SIZE,
    maxLength: 64,
    positions: 64,
    tilePositions: false,
    tokenTypes: 2,
    wordScale: 1,
    embeddingNorm: true,
    norm: 'post',
    epsilon: 1e-12,
    layers: Array.from({ length: LAYERS }, () => ({
      inputSize: SIZE,
      outputSize: SIZE,
      heads: 4,
      headSize: SIZE / 4,
      feedForwardSize: FEED_FORWARD,
      activation: 'gelu' as const,
      attention: { kind: 'dense' as const },
    })),
    head,
  };
  const weights = makeWeights(config);
  return {
    config,
    tokenizer: wordPiece(vocabulary),
    recipe: [],
    provenance: { source: 'random weights' },
    weights: {
      specs: new Map([...weights].map(([name, { codec, shape }]) => [name, { codec, shape }])),
      read: async (name) => weights.get(name)!,
    },
  };
}

function makeWeights({ vocabularySize, positions, tokenTypes, head }: EncoderConfig): Map<string, Weight> {
  let state = 0x2545f491;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const weights = new Map<string, Weight>();
  const add = (name: string, shape: number[], value: () => number = () => random() / 2) => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, value);
    weights.set(name, encode('float32', shape, values));
  };
  const linear = (name: string, out: number, from: number) => {
    add(`${name}.weight`, [out, from]);
    add(`${name}.bias`, [out]);
  };
  const norm = (name: string) => {
    add(`${name}.scale`, [SIZE], () => 1 + random() / 10);
    add(`${name}.bias`, [SIZE]);
  };
  if (head.kind === 'classification') {
    linear(names.head.pooler, SIZE, SIZE);
    linear(names.head.classifier, head.labels.length, SIZE);
  }
  if (head.kind === 'maskedToken') {
    linear(names.head.transform, SIZE, SIZE);
    norm(names.head.norm);
    add(names.head.bias, [vocabularySize]);
  }
  add(names.word, [vocabularySize, SIZE]);
  add(names.position, [positions, SIZE]);
  add(names.tokenType, [tokenTypes, SIZE]);
  norm(names.embeddingNorm);
  for (let i = 0; i < LAYERS; i++) {
    const at = names.layer(i);
    for (const name of [at.query, at.key, at.value, at.output]) linear(name, SIZE, SIZE);
    norm(at.attentionNorm);
    linear(at.up, FEED_FORWARD, SIZE);
    linear(at.down, SIZE, FEED_FORWARD);
    norm(at.feedForwardNorm);
  }
  return weights;
}

function wordPiece(vocabulary: readonly string[]): TokenizerSpec {
  const id = (token: string) => vocabulary.indexOf(token);
  const special = (token: string) => ({ SpecialToken: { id: token, type_id: 0 } });
  const first = { Sequence: { id: 'A', type_id: 0 } };
  return {
    kind: 'huggingface',
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: SPECIAL.map((content) => ({
        id: id(content),
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single: [special('[CLS]'), first, special('[SEP]')],
        pair: [
          ...[special('[CLS]'), first, special('[SEP]')],
          { Sequence: { id: 'B', type_id: 1 } },
          { SpecialToken: { id: '[SEP]', type_id: 1 } },
        ],
        special_tokens: Object.fromEntries(
          ['[CLS]', '[SEP]'].map((token) => [token, { id: token, ids: [id(token)], tokens: [token] }]),
        ),
      },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(vocabulary.map((token, i) => [token, i])),
      },
    },
    config: {
      tokenizer_class: 'BertTokenizer',
      do_lower_case: true,
      unk_token: '[UNK]',
      cls_token: '[CLS]',
      sep_token: '[SEP]',
      pad_token: '[PAD]',
      mask_token: '[MASK]',
    },
  };
}
