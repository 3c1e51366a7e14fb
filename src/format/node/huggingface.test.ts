import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { traceEncoder } from '../../model/encoder.ts';
import { writeSafetensors } from '../safetensors.ts';
import { openHuggingFace } from './huggingface.ts';
import { openModel } from './open.ts';

const root = mkdtempSync(join(tmpdir(), 'attenuate-hf-'));
afterAll(() => rmSync(root, { recursive: true }));

const [C, F, V, P] = [4, 6, 7, 8];
type Type = 'F32' | 'F16' | 'BF16' | 'I64';
type Shapes = Record<string, number[]>;
const WIDTH = { F32: 4, F16: 2, BF16: 2, I64: 8 };

const linear = (name: string, out: number, into: number): Shapes => ({
  [`${name}.weight`]: [out, into],
  [`${name}.bias`]: [out],
});
const norm = (name: string, old = false): Shapes => ({
  [`${name}.${old ? 'gamma' : 'weight'}`]: [C],
  [`${name}.${old ? 'beta' : 'bias'}`]: [C],
});

const bert = (prefix = '', old = false): Shapes => ({
  [`${prefix}embeddings.word_embeddings.weight`]: [V, C],
  [`${prefix}embeddings.position_embeddings.weight`]: [P, C],
  [`${prefix}embeddings.token_type_embeddings.weight`]: [2, C],
  ...norm(`${prefix}embeddings.LayerNorm`, old),
  ...linear(`${prefix}encoder.layer.0.attention.self.query`, C, C),
  ...linear(`${prefix}encoder.layer.0.attention.self.key`, C, C),
  ...linear(`${prefix}encoder.layer.0.attention.self.value`, C, C),
  ...linear(`${prefix}encoder.layer.0.attention.output.dense`, C, C),
  ...norm(`${prefix}encoder.layer.0.attention.output.LayerNorm`, old),
  ...linear(`${prefix}encoder.layer.0.intermediate.dense`, F, C),
  ...linear(`${prefix}encoder.layer.0.output.dense`, C, F),
  ...norm(`${prefix}encoder.layer.0.output.LayerNorm`, old),
});
const distilbert = (prefix = 'distilbert.'): Shapes => ({
  [`${prefix}embeddings.word_embeddings.weight`]: [V, C],
  [`${prefix}embeddings.position_embeddings.weight`]: [P, C],
  ...norm(`${prefix}embeddings.LayerNorm`),
  ...Object.assign(
    {},
    ...['q', 'k', 'v', 'out'].map((x) => linear(`${prefix}transformer.layer.0.attention.${x}_lin`, C, C)),
  ),
  ...norm(`${prefix}transformer.layer.0.sa_layer_norm`),
  ...linear(`${prefix}transformer.layer.0.ffn.lin1`, F, C),
  ...linear(`${prefix}transformer.layer.0.ffn.lin2`, C, F),
  ...norm(`${prefix}transformer.layer.0.output_layer_norm`),
});
const bertConfig = (changes: object = {}) => ({
  model_type: 'bert',
  architectures: ['BertModel'],
  vocab_size: V,
  hidden_size: C,
  num_attention_heads: 2,
  num_hidden_layers: 1,
  intermediate_size: F,
  max_position_embeddings: P,
  layer_norm_eps: 1e-12,
  hidden_act: 'gelu',
  ...changes,
});
const distilbertConfig = (changes: object = {}) => ({
  model_type: 'distilbert',
  architectures: ['DistilBertModel'],
  vocab_size: V,
  dim: C,
  n_heads: 2,
  n_layers: 1,
  hidden_dim: F,
  max_position_embeddings: P,
  activation: 'gelu',
  ...changes,
});

/** Weight k of a file is filled with bytes k, k + 1, …, so that every weight is told from every other. */
async function writeWeights(path: string, shapes: Shapes, type: Type = 'F32', first = 1): Promise<void> {
  const parts: Uint8Array[] = [];
  const tensors = Object.entries(shapes).map(([name, shape], i) => {
    const dtype = name.endsWith('_ids') ? 'I64' : type;
    const bytes = new Uint8Array(WIDTH[dtype] * shape.reduce((a, b) => a * b, 1)).fill(i + first);
    return { name, dtype, shape, read: () => bytes };
  });
  await writeSafetensors(tensors, { format: 'pt' }, (bytes) => void parts.push(bytes.slice()));
  writeFileSync(path, Buffer.concat(parts));
}

let made = 0;
async function folderOf(
  config: unknown,
  shapes: Shapes,
  files: Record<string, unknown> = {},
  type: Type = 'F32',
) {
  const folder = join(root, String(made++));
  mkdirSync(folder);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await writeWeights(join(folder, 'model.safetensors'), shapes, type);
  for (const [name, value] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), JSON.stringify(value));
  }
  return folder;
}

/** Opens, traces, and compares every weight's bytes by name with its place in the file. */
async function opened(folder: string) {
  const model = await openHuggingFace(folder);
  await traceEncoder(model.config, model.weights.specs);
  const streamed = new Map<string, number[]>();
  for await (const { name, bytes } of model.weights.stream!()) streamed.set(name, [...bytes]);
  for (const name of model.weights.specs.keys())
    expect([...(await model.weights.read(name)).bytes]).toEqual(streamed.get(name));
  await model.weights.close!();
  return { ...model, marks: new Map([...streamed].map(([name, bytes]) => [name, bytes[0]])) };
}

const module = (kind: string, path: string) => ({ type: `sentence_transformers.models.${kind}`, path });
const pooling = (...modes: string[]) =>
  Object.fromEntries(modes.map((mode) => [`pooling_mode_${mode}`, true]));
const sentence = (config: object, ...more: string[]) => ({
  'modules.json': [
    module('Transformer', ''),
    module('Pooling', '1_Pooling'),
    ...more.map((m) => module(m, `2_${m}`)),
  ],
  '1_Pooling/config.json': config,
});

describe('a bert folder', () => {
  it.each([
    ['', false],
    ['bert.', false],
    ['bert.', true],
  ])('is read with prefix "%s", old norm names %s', async (prefix, old) => {
    const shapes = {
      ...bert(prefix, old),
      [`${prefix}embeddings.position_ids`]: [1, P],
      ...linear(`${prefix}pooler.dense`, C, C),
    };
    const { config, marks, weights } = await opened(await folderOf(bertConfig(), shapes));
    expect(config.head).toEqual({ kind: 'embedding', pooling: 'mean', dense: false, normalize: false });
    expect([config.maxLength, config.tokenTypes, config.layers[0].headSize]).toEqual([P, 2, 2]);
    expect([...marks.values()]).toEqual(Array.from({ length: weights.specs.size }, (_, i) => i + 1));
    expect(marks.get('embedding.norm.scale')).toBe(4);
    expect(marks.get('layers.0.feedForward.norm.bias')).toBe(21);
  });

  it.each([
    ['F16', 'float16'],
    ['BF16', 'bfloat16'],
  ] as const)('keeps %s as %s', async (type, codec) => {
    const { weights } = await opened(await folderOf(bertConfig(), bert(), {}, type));
    expect(new Set([...weights.specs.values()].map((spec) => spec.codec))).toEqual(new Set([codec]));
  });

  it('may be in shards', async () => {
    const folder = await folderOf(bertConfig(), bert());
    rmSync(join(folder, 'model.safetensors'));
    const all = Object.entries(bert());
    const halves = [Object.fromEntries(all.slice(0, 9)), Object.fromEntries(all.slice(9))];
    const index = (shard: (i: number) => string) =>
      writeFileSync(
        join(folder, 'model.safetensors.index.json'),
        JSON.stringify({
          weight_map: Object.fromEntries(all.map(([name], i) => [name, shard(i < 9 ? 1 : 2)])),
        }),
      );
    await writeWeights(join(folder, 'model-1.safetensors'), halves[0]);
    await writeWeights(join(folder, 'model-2.safetensors'), halves[1], 'F32', 10);
    index((i) => `model-${i}.safetensors`);
    expect([...(await opened(folder)).marks.values()]).toEqual(all.map((_, i) => i + 1));
    const fails = async (shard: (i: number) => string, code: string) => {
      index(shard);
      await expect(openHuggingFace(folder)).rejects.toMatchObject({ code });
    };
    await fails(() => '../model-1.safetensors', 'HF_INDEX');
    await fails(() => '/etc/model-1.safetensors', 'HF_INDEX');
    await fails((i) => `model-${3 - i}.safetensors`, 'HF_INDEX');
    await fails((i) => `none-${i}.safetensors`, 'HF_WEIGHTS_MISSING');
  });

  it('classifies', async () => {
    const config = bertConfig({
      architectures: ['BertForSequenceClassification'],
      id2label: { 0: 'a', 1: 'b', 2: 'c' },
    });
    const shapes = { ...bert('bert.'), ...linear('bert.pooler.dense', C, C), ...linear('classifier', 3, C) };
    const { config: c, marks } = await opened(await folderOf(config, shapes));
    expect(c.head).toEqual({ kind: 'classification', labels: ['a', 'b', 'c'], poolerActivation: 'tanh' });
    expect(marks.get('head.classifier.bias')).toBe(25);
    const single = { ...shapes, ...linear('classifier', 1, C) };
    await expect(openHuggingFace(await folderOf(config, single))).rejects.toMatchObject({
      code: 'HF_UNSUPPORTED',
    });
    const labels = { ...config, id2label: { 0: 'a' } };
    await expect(openHuggingFace(await folderOf(labels, shapes))).rejects.toMatchObject({
      code: 'HF_LABELS',
    });
  });

  it('predicts masked tokens, with copies only of what they are tied to', async () => {
    const config = bertConfig({ architectures: ['BertForMaskedLM'] });
    const shapes = {
      ...bert('bert.'),
      ...linear('cls.predictions.transform.dense', C, C),
      ...norm('cls.predictions.transform.LayerNorm'),
      'cls.predictions.bias': [V],
      ...linear('cls.seq_relationship', 2, C),
    };
    const { config: c } = await opened(await folderOf(config, shapes));
    expect(c.head).toEqual({ kind: 'maskedToken', activation: 'gelu' });
    const untied = { ...shapes, 'cls.predictions.decoder.weight': [V, C] };
    await expect(openHuggingFace(await folderOf(config, untied))).rejects.toMatchObject({
      code: 'HF_WEIGHT_UNTIED',
    });
  });

  it.each([
    ['mean_tokens', 'mean'],
    ['cls_token', 'first'],
    ['max_tokens', 'max'],
    ['mean_sqrt_len_tokens', 'sqrtMean'],
  ])('pools by %s', async (mode, expected) => {
    const files = {
      ...sentence(pooling(mode), 'Normalize'),
      'sentence_bert_config.json': { max_seq_length: 5 },
    };
    const { config } = await opened(await folderOf(bertConfig(), bert(), files));
    expect(config.head).toEqual({ kind: 'embedding', pooling: expected, dense: false, normalize: true });
    expect(config.maxLength).toBe(5);
  });

  it('has a dense module with tanh', async () => {
    const tanh = { activation_function: 'torch.nn.modules.activation.Tanh', bias: true };
    const folder = await folderOf(bertConfig(), bert(), {
      ...sentence(pooling('mean_tokens'), 'Dense'),
      '2_Dense/config.json': tanh,
    });
    await writeWeights(join(folder, '2_Dense', 'model.safetensors'), linear('linear', 3, C));
    const model = await opened(folder);
    expect(model.config.head).toMatchObject({ dense: true, normalize: false });
    expect(model.weights.specs.get('head.dense.weight')!.shape).toEqual([3, C]);
    writeFileSync(
      join(folder, '2_Dense', 'config.json'),
      JSON.stringify({ ...tanh, activation_function: 'GELU' }),
    );
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'HF_UNSUPPORTED' });
  });

  it('ignores absurd lengths of a tokenizer', async () => {
    const lengthOf = async (model_max_length: number) =>
      (await opened(await folderOf(bertConfig(), bert(), { 'tokenizer_config.json': { model_max_length } })))
        .config.maxLength;
    expect(await lengthOf(6)).toBe(6);
    expect(await lengthOf(1e30)).toBe(P);
  });
});

describe('a distilbert folder', () => {
  it('is read', async () => {
    const { config, marks } = await opened(await folderOf(distilbertConfig(), distilbert('')));
    expect([config.tokenTypes, config.epsilon, config.architecture]).toEqual([0, 1e-12, 'distilbert']);
    expect([...marks.values()]).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });

  it('classifies', async () => {
    const config = distilbertConfig({ architectures: ['DistilBertForSequenceClassification'] });
    const shapes = { ...distilbert(), ...linear('pre_classifier', C, C), ...linear('classifier', 2, C) };
    const { config: c } = await opened(await folderOf(config, shapes));
    expect(c.head).toEqual({
      kind: 'classification',
      labels: ['LABEL_0', 'LABEL_1'],
      poolerActivation: 'relu',
    });
  });

  it('predicts masked tokens', async () => {
    const config = distilbertConfig({ architectures: ['DistilBertForMaskedLM'] });
    const shapes = {
      ...distilbert(),
      ...linear('vocab_transform', C, C),
      ...norm('vocab_layer_norm'),
      'vocab_projector.bias': [V],
    };
    const { config: c, marks } = await opened(await folderOf(config, shapes));
    expect(c.head.kind).toBe('maskedToken');
    expect(marks.get('head.bias')).toBe(25);
  });
});

describe('refusals', () => {
  const without = (name: string) =>
    Object.fromEntries(Object.entries(bert()).filter(([key]) => key !== name));
  const more = (shapes: Shapes) => ({ ...bert(), ...shapes });
  it.each<[string, object, Shapes, Record<string, unknown>, RegExp]>([
    ['HF_MODEL_TYPE', { model_type: 'llama' }, bert(), {}, /bert or distilbert, got "llama"/],
    ['HF_UNSUPPORTED', { position_embedding_type: 'relative_key' }, bert(), {}, /relative_key/],
    ['HF_UNSUPPORTED', { hidden_act: 'silu' }, bert(), {}, /silu/],
    ['HF_UNSUPPORTED', { is_decoder: true }, bert(), {}, /encoder/],
    ['HF_UNSUPPORTED', { pruned_heads: { 0: [1] } }, bert(), {}, /pruned/],
    ['HF_UNSUPPORTED', { architectures: ['BertForQuestionAnswering'] }, bert(), {}, /QuestionAnswering/],
    ['HF_CONFIG', { num_hidden_layers: 1e9 }, bert(), {}, /num_hidden_layers/],
    ['HF_CONFIG', { hidden_size: undefined }, bert(), {}, /hidden_size/],
    ['HF_CONFIG', { num_attention_heads: 3 }, bert(), {}, /divisor/],
    ['HF_CONFIG', { layer_norm_eps: 'x' }, bert(), {}, /layer_norm_eps/],
    [
      'HF_WEIGHT_MISSING',
      {},
      without('encoder.layer.0.output.dense.bias'),
      {},
      /encoder\.layer\.0\.output\.dense\.bias/,
    ],
    ['HF_WEIGHT_UNKNOWN', {}, more({ 'adapter.weight': [1] }), {}, /adapter\.weight/],
    ['HF_WEIGHT_SHAPE', { vocab_size: V + 1 }, bert(), {}, /embedding\.word/],
    ['HF_UNSUPPORTED', {}, bert(), sentence(pooling('cls_token', 'mean_tokens')), /cls_token and/],
    ['HF_UNSUPPORTED', {}, bert(), sentence(pooling('lasttoken')), /lasttoken/],
    ['HF_UNSUPPORTED', {}, bert(), sentence(pooling('mean_tokens'), 'LSTM'), /LSTM/],
    ['HF_MODULES', {}, bert(), { 'modules.json': [module('Transformer', '../other')] }, /inside the folder/],
    ['HF_MODULES', {}, bert(), { 'modules.json': {} }, /modules\.json/],
  ])('%s %#', async (code, config, shapes, files, message) => {
    const folder = await folderOf(bertConfig(config), shapes, files);
    const error = await openHuggingFace(folder).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'AttenuateError', code });
    expect(String(error)).toMatch(message);
  });

  it('HF_DTYPE for weights that are no floats', async () => {
    const folder = await folderOf(bertConfig(), bert(), {}, 'I64');
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'HF_DTYPE' });
  });

  it('FILE_JSON, and no configuration or weights at all', async () => {
    const folder = await folderOf([], bert());
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'FILE_JSON' });
    writeFileSync(join(folder, 'config.json'), '{');
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'FILE_JSON' });
    rmSync(join(folder, 'config.json'));
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'HF_CONFIG' });
    writeFileSync(join(folder, 'config.json'), JSON.stringify(bertConfig()));
    rmSync(join(folder, 'model.safetensors'));
    await expect(openHuggingFace(folder)).rejects.toMatchObject({ code: 'HF_WEIGHTS_MISSING' });
  });
});

describe('openModel', () => {
  it('knows a folder, and the weights in it, by what is there', async () => {
    const folder = await folderOf(bertConfig(), bert());
    for (const path of [folder, join(folder, 'model.safetensors')]) {
      const model = await openModel(path);
      expect(model.config.architecture).toBe('bert');
      await model.weights.close!();
    }
    rmSync(join(folder, 'config.json'));
    for (const path of [
      folder,
      join(folder, 'model.safetensors'),
      join(folder, 'none'),
      import.meta.filename,
    ])
      await expect(openModel(path)).rejects.toMatchObject({
        code: 'MODEL_UNKNOWN',
        message: expect.stringMatching(/artifact.*Hugging Face folder.*@energetic-ai/),
      });
  });
});
