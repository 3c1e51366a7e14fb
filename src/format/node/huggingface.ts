import { basename, join, resolve } from 'node:path';
import type { HeadSpec, Model, TokenizerSpec } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { CHUNK_BYTES } from '../byte-source.ts';
import { type EncoderShape, encoderShape, unsupported } from './huggingface-config.ts';
import { encoderNames, headNames, isHarmless, type NameTable, TIED } from './huggingface-names.ts';
import { isObject, type JsonObject, readJsonObject } from './json-file.ts';
import { openTensorFiles, type ShardedTensor, type TensorFiles, tensorStore } from './safetensors-files.ts';
import { readSentenceHead } from './sentence-transformers.ts';

/**
 * Opens a folder as the Hugging Face hub has it: `config.json` of a bert or distilbert, `model.safetensors` or
 * shards, `tokenizer.json`, and where it is a Sentence Transformers model, its `modules.json`. Weights stay in their
 * files until they are read; `weights.close` closes these.
 * @throws `HF_CONFIG`, `HF_MODEL_TYPE`, `HF_UNSUPPORTED`, `HF_MODULES`, `HF_INDEX`, `HF_WEIGHTS_MISSING`,
 *   `HF_WEIGHT_MISSING`, `HF_WEIGHT_UNKNOWN`, `HF_WEIGHT_SHAPE`, `HF_WEIGHT_UNTIED`, `HF_DTYPE`, `HF_LABELS` and
 *   the codes of `readSafetensorsHeader`
 */
export async function openHuggingFace(folder: string): Promise<Model> {
  const files: TensorFiles[] = [];
  try {
    return await open(folder, files);
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw error;
  }
}

async function open(folder: string, files: TensorFiles[]): Promise<Model> {
  const sentence = await readSentenceHead(folder);
  files.push(...(sentence?.files ?? []));
  const encoderFolder = sentence?.encoderFolder ?? folder;
  const config = await readJsonObject(join(encoderFolder, 'config.json'));
  if (!config)
    throw new AttenuateError(
      'HF_CONFIG',
      `[huggingface] no configuration: expected config.json in ${encoderFolder}, got none. Pass a folder as the hub has it.`,
      { folder },
    );
  const shape = encoderShape(config);
  const kind = headKind(config, sentence !== null);
  const encoder = await openTensorFiles(encoderFolder);
  files.push(encoder);
  const { weights, tied } = mapWeights(encoder.tensors, shape, kind);
  if (config.tie_word_embeddings === false && kind === 'maskedToken')
    throw unsupported(
      'masked-token head with a matrix of its own',
      'tie_word_embeddings true',
      false,
      'Choose a model that shares it with the word embedding.',
    );
  for (const [copy, original] of tied) await checkTied(copy, original);
  for (const [name, tensor] of sentence?.weights ?? []) weights.set(name, tensor);

  const tokenizerConfig =
    (await readJsonObject(join(encoderFolder, 'tokenizer_config.json'))) ??
    (await readJsonObject(join(folder, 'tokenizer_config.json')));
  const store = tensorStore(weights, files);
  const result: Model = {
    config: {
      ...shape,
      maxLength: await maxLengthOf(encoderFolder, tokenizerConfig, shape.positions),
      head: headSpec(kind, config, shape, weights, sentence?.head),
    },
    tokenizer: await readTokenizer([encoderFolder, folder], tokenizerConfig),
    weights: store,
    recipe: [],
    provenance: {
      format: 'huggingface',
      name: basename(resolve(folder)),
      architectures: config.architectures ?? [],
    },
  };
  checkShapes(result);
  return result;
}

function headKind(config: JsonObject, sentence: boolean): HeadSpec['kind'] {
  const architectures = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  const name = architectures[0] ?? '';
  if (/ForSequenceClassification$/.test(name)) return 'classification';
  if (sentence) return 'embedding';
  if (/ForMaskedLM$/.test(name)) return 'maskedToken';
  if (name === '' || /(Model|ForPreTraining)$/.test(name)) return 'embedding';
  throw unsupported(
    'head that cannot be run',
    'an architecture …Model, …ForSequenceClassification or …ForMaskedLM',
    name,
    'Choose another model.',
  );
}

interface Mapped {
  readonly weights: Map<string, ShardedTensor>;
  readonly tied: readonly (readonly [copy: ShardedTensor, original: ShardedTensor])[];
}

function mapWeights(
  tensors: ReadonlyMap<string, ShardedTensor>,
  { architecture, layers }: EncoderShape,
  head: HeadSpec['kind'],
): Mapped {
  const prefix = tensors.has(`${architecture}.embeddings.word_embeddings.weight`) ? `${architecture}.` : '';
  const wanted: NameTable = [
    ...encoderNames(architecture, layers.length).map(([to, from]) => [to, prefix + from] as const),
    ...headNames(architecture, head, prefix),
  ];
  const used = new Set<string>();
  const weights = new Map<string, ShardedTensor>();
  for (const [canonical, original] of wanted) {
    const name = [original, oldNormName(original)].find((n) => tensors.has(n));
    if (name === undefined)
      throw new AttenuateError(
        'HF_WEIGHT_MISSING',
        `[huggingface] missing weight: expected ${original}, got none of that name among ${tensors.size}. Check that config.json belongs to these weights.`,
        { name: original },
      );
    used.add(name);
    weights.set(canonical, tensors.get(name)!);
  }
  const rest = [...tensors.keys()].filter((name) => !used.has(name) && !isHarmless(name, head, prefix));
  const copies = rest.filter((name) => head === 'maskedToken' && Object.hasOwn(TIED, name));
  const unknown = rest.filter((name) => !copies.includes(name));
  if (unknown.length > 0)
    throw new AttenuateError(
      'HF_WEIGHT_UNKNOWN',
      `[huggingface] weights that the model would not use: expected none, got ${unknown.slice(0, 5).join(', ')}${unknown.length > 5 ? ` and ${unknown.length - 5} more` : ''}. Choose a model without them: they may change what it computes.`,
      { names: unknown },
    );
  return { weights, tied: copies.map((name) => [tensors.get(name)!, weights.get(TIED[name])!] as const) };
}

const oldNormName = (name: string): string =>
  name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta');

async function checkTied(copy: ShardedTensor, original: ShardedTensor): Promise<void> {
  let equal = copy.dtype === original.dtype && copy.byteLength === original.byteLength;
  for (let at = 0; equal && at < copy.byteLength; at += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, copy.byteLength - at);
    const [a, b] = await Promise.all([
      copy.source.read(copy.offset + at, length),
      original.source.read(original.offset + at, length),
    ]);
    equal = Buffer.compare(a, b) === 0;
  }
  if (!equal)
    throw new AttenuateError(
      'HF_WEIGHT_UNTIED',
      `[huggingface] masked-token head with weights of its own: expected ${copy.name} to equal ${original.name}, got another. Choose a model that shares them.`,
      { name: copy.name, original: original.name },
    );
}

function headSpec(
  kind: HeadSpec['kind'],
  config: JsonObject,
  shape: EncoderShape,
  weights: ReadonlyMap<string, ShardedTensor>,
  sentence: HeadSpec | undefined,
): HeadSpec {
  if (kind === 'embedding') return sentence ?? { kind, pooling: 'mean', dense: false, normalize: false };
  if (kind === 'maskedToken') return { kind, activation: shape.layers[0].activation };
  return {
    kind,
    labels: labelsOf(config, weights.get(`${names.head.classifier}.weight`)!.shape[0] ?? 0),
    poolerActivation: shape.architecture === 'bert' ? 'tanh' : 'relu',
  };
}

function labelsOf(config: JsonObject, size: number): string[] {
  if (size < 2 || ['multi_label_classification', 'regression'].includes(String(config.problem_type)))
    throw unsupported(
      'classification that is not one label out of several',
      'two labels or more and a softmax',
      `${size} with problem_type ${config.problem_type ?? 'unset'}`,
      'Choose another model.',
    );
  const table = config.id2label;
  if (table === undefined || table === null) return Array.from({ length: size }, (_, i) => `LABEL_${i}`);
  const labels = isObject(table) ? Array.from({ length: size }, (_, i) => table[String(i)]) : [];
  if (isObject(table) && Object.keys(table).length === size && labels.every((x) => typeof x === 'string'))
    return labels as string[];
  throw new AttenuateError(
    'HF_LABELS',
    `[huggingface] bad id2label: expected a name for each of ${size} labels, got ${JSON.stringify(table).slice(0, 200)}. Check config.json.`,
    { size },
  );
}

/** What the sentence model was trained for, else what its tokenizer says, and never more than there are positions. */
async function maxLengthOf(folder: string, tokenizer: JsonObject | null, positions: number): Promise<number> {
  const sentence = await readJsonObject(join(folder, 'sentence_bert_config.json'));
  // Tokenizers without a limit say 10^30.
  for (const value of [sentence?.max_seq_length, tokenizer?.model_max_length])
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= positions)
      return value;
  return positions;
}

async function readTokenizer(
  folders: readonly string[],
  config: JsonObject | null,
): Promise<TokenizerSpec | null> {
  for (const folder of folders) {
    const tokenizer = await readJsonObject(join(folder, 'tokenizer.json'));
    if (tokenizer) return { kind: 'huggingface', tokenizer, config: config ?? {} };
  }
  return null;
}

/** Shapes are checked against config.json here, where the original names are known to whoever reads the message. */
function checkShapes({ config, weights }: Model): void {
  const { embeddingSize: C, vocabularySize, positions, tokenTypes } = config;
  const F = config.layers[0].feedForwardSize;
  const expected: [string, readonly number[]][] = [
    [names.word, [vocabularySize, C]],
    [names.position, [positions, C]],
    ...(tokenTypes ? ([[names.tokenType, [tokenTypes, C]]] as [string, number[]][]) : []),
    ...config.layers.flatMap((_, i): [string, readonly number[]][] => {
      const at = names.layer(i);
      return [
        ...[at.query, at.key, at.value, at.output].map((x): [string, number[]] => [`${x}.weight`, [C, C]]),
        [`${at.up}.weight`, [F, C]],
        [`${at.down}.weight`, [C, F]],
      ];
    }),
  ];
  for (const [name, shape] of expected) {
    const got = weights.specs.get(name)!.shape;
    if (got.length !== shape.length || got.some((d, i) => d !== shape[i]))
      throw new AttenuateError(
        'HF_WEIGHT_SHAPE',
        `[huggingface] wrong shape of ${name}: expected [${shape}] from config.json, got [${got}]. Check that config.json belongs to these weights.`,
        { name, expected: shape, got },
      );
  }
}
