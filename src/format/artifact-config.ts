import type {
  AttentionSpec,
  EncoderConfig,
  HeadSpec,
  IntegerSpec,
  LayerSpec,
  TokenizerSpec,
  TokenTemplate,
} from '../model/config.ts';
import { CODECS, type Codec, optionsFit, specOf, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';

const invalid = (code: string, path: string, expected: string, got: unknown) =>
  new AttenuateError(
    code,
    `[artifact] bad ${path}: expected ${expected}, got ${JSON.stringify(got)?.slice(0, 100) ?? 'nothing'}. Build or download the artifact again.`,
    { path, expected },
  );

/** Reads the members of one object of unknown origin; every reader throws under the same code. */
class Members {
  private readonly value: Record<string, unknown>;
  private readonly path: string;
  private readonly code: string;

  constructor(value: unknown, path: string, code = 'ARTIFACT_CONFIG') {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid(code, path, 'an object', value);
    this.value = value as Record<string, unknown>;
    this.path = path;
    this.code = code;
  }

  get(key: string): unknown {
    return Object.hasOwn(this.value, key) ? this.value[key] : undefined;
  }

  fail(key: string, expected: string): AttenuateError {
    return invalid(this.code, `${this.path}.${key}`, expected, this.get(key));
  }

  integer(key: string, least: number, most: number): number {
    const value = this.get(key);
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw this.fail(key, `an integer from ${least} to ${most}`);
  }

  /** A finite number above `above`, at most `most`. */
  number(key: string, above: number, most: number): number {
    const value = this.get(key);
    if (typeof value === 'number' && value > above && value <= most) return value;
    throw this.fail(key, `a number above ${above}, at most ${most}`);
  }

  boolean(key: string): boolean {
    const value = this.get(key);
    if (typeof value === 'boolean') return value;
    throw this.fail(key, 'true or false');
  }

  choice<const T extends string>(key: string, choices: readonly T[]): T {
    const value = choices.find((choice) => choice === this.get(key));
    if (value !== undefined) return value;
    throw this.fail(key, choices.join(', '));
  }

  array(key: string, most: number): unknown[] {
    const value = this.get(key);
    if (Array.isArray(value) && value.length <= most) return value;
    throw this.fail(key, `a list of at most ${most}`);
  }
}

const MOST = 10_000_000;
const MOST_ELEMENTS = 2 ** 31 - 4;
const ACTIVATIONS = ['gelu', 'geluTanh', 'relu', 'tanh'] as const;

/** An encoder's configuration from parsed JSON; members that it does not know are left out. @throws `ARTIFACT_CONFIG` */
export function validateConfig(value: unknown): EncoderConfig {
  const m = new Members(value, 'config');
  const embeddingSize = m.integer('embeddingSize', 1, 65_536);
  const config: EncoderConfig = {
    architecture: m.choice('architecture', ['bert', 'distilbert', 'use-lite']),
    vocabularySize: m.integer('vocabularySize', 1, MOST),
    embeddingSize,
    ...(m.get('tableSize') === undefined ? {} : { tableSize: m.integer('tableSize', 1, embeddingSize) }),
    maxLength: m.integer('maxLength', 1, MOST),
    positions: m.integer('positions', 0, MOST),
    tilePositions: m.boolean('tilePositions'),
    tokenTypes: m.integer('tokenTypes', 0, 1000),
    wordScale: m.number('wordScale', 0, 1e6),
    embeddingNorm: m.boolean('embeddingNorm'),
    norm: m.choice('norm', ['post', 'pre']),
    epsilon: m.number('epsilon', 0, 1),
    layers: m.array('layers', 1000).map(validateLayer),
    head: validateHead(m.get('head')),
    ...(m.get('integer') !== undefined && { integer: validateInteger(m.get('integer')) }),
  };
  let size = embeddingSize;
  config.layers.forEach((layer, i) => {
    if (layer.inputSize !== size)
      throw invalid('ARTIFACT_CONFIG', `config.layers[${i}].inputSize`, `${size}`, layer.inputSize);
    size = layer.outputSize;
    const owner = layer.sharedWith === undefined ? undefined : config.layers[layer.sharedWith];
    if (owner && (owner.sharedWith !== undefined || !sameSizes(owner, layer)))
      throw invalid(
        'ARTIFACT_CONFIG',
        `config.layers[${i}].sharedWith`,
        'a layer of the same sizes with weights of its own',
        layer.sharedWith,
      );
  });
  if (config.positions > 0 && !config.tilePositions && config.maxLength > config.positions)
    throw invalid('ARTIFACT_CONFIG', 'config.maxLength', `at most ${config.positions}`, config.maxLength);
  return config;
}

const sameSizes = (a: LayerSpec, b: LayerSpec): boolean =>
  a.inputSize === b.inputSize &&
  a.outputSize === b.outputSize &&
  a.heads === b.heads &&
  a.headSize === b.headSize &&
  a.feedForwardSize === b.feedForwardSize;

function validateLayer(value: unknown, index: number): LayerSpec {
  const m = new Members(value, `config.layers[${index}]`);
  return {
    inputSize: m.integer('inputSize', 1, 65_536),
    outputSize: m.integer('outputSize', 1, 65_536),
    heads: m.integer('heads', 1, 4096),
    headSize: m.integer('headSize', 1, 65_536),
    feedForwardSize: m.integer('feedForwardSize', 1, 1_000_000),
    activation: m.choice('activation', ACTIVATIONS),
    attention: validateAttention(m.get('attention'), `config.layers[${index}].attention`),
    ...(m.get('sharedWith') === undefined ? {} : { sharedWith: m.integer('sharedWith', 0, index - 1) }),
  };
}

/** Most characters of one layer's attention as JSON. */
const MOST_ATTENTION = 100_000;

/** Names a mechanism; whether there is such a one and whether its options are sound is checked before it is traced. */
function validateAttention(value: unknown, path: string): AttentionSpec {
  const m = new Members(value, path);
  const kind = m.get('kind');
  if (typeof kind !== 'string' || !/^[a-z0-9-]{1,60}$/.test(kind))
    throw m.fail('kind', 'the name of a mechanism');
  if (JSON.stringify(value).length > MOST_ATTENTION)
    throw invalid('ARTIFACT_CONFIG', path, `at most ${MOST_ATTENTION} characters`, value);
  return value as AttentionSpec;
}

/** Scales and shifts by name; they are checked one by one before the model is traced. */
function validateInteger(value: unknown): IntegerSpec {
  const m = new Members(value, 'config.integer');
  for (const part of ['codes', 'shifts']) new Members(m.get(part), `config.integer.${part}`);
  return { codes: m.get('codes'), shifts: m.get('shifts') } as IntegerSpec;
}

function validateHead(value: unknown): HeadSpec {
  const m = new Members(value, 'config.head');
  const kind = m.choice('kind', ['embedding', 'classification', 'maskedToken']);
  if (kind === 'embedding')
    return {
      kind,
      pooling: m.choice('pooling', ['mean', 'first', 'max', 'sqrtMean']),
      dense: m.boolean('dense'),
      normalize: m.boolean('normalize'),
    };
  if (kind === 'maskedToken') return { kind, activation: m.choice('activation', ['none', ...ACTIVATIONS]) };
  const labels = m.array('labels', 1_000_000);
  if (labels.length === 0 || !labels.every((label) => typeof label === 'string'))
    throw m.fail('labels', 'names of labels');
  const poolerActivation =
    m.get('poolerActivation') === null ? null : m.choice('poolerActivation', ['none', ...ACTIVATIONS]);
  return { kind, labels: labels as string[], poolerActivation };
}

/** A tokenizer's data from parsed JSON; `createTokenizer` checks what is inside. @throws `ARTIFACT_TOKENIZER` */
export function validateTokenizer(value: unknown): TokenizerSpec | null {
  if (value === null) return null;
  const m = new Members(value, 'tokenizer', 'ARTIFACT_TOKENIZER');
  const kind = m.choice('kind', ['wordPiece', 'huggingface', 'unigram']);
  if (kind === 'wordPiece') return validateWordPiece(m);
  if (kind === 'huggingface')
    return { kind: 'huggingface', tokenizer: m.get('tokenizer'), config: m.get('config') };
  const vocabulary = m.array('vocabulary', MOST);
  const good = (entry: unknown) =>
    Array.isArray(entry) && entry.length === 2 && typeof entry[0] === 'string' && Number.isFinite(entry[1]);
  if (vocabulary.length === 0 || !vocabulary.every(good)) throw m.fail('vocabulary', '[piece, score] pairs');
  return {
    kind: 'unigram',
    vocabulary: vocabulary as [string, number][],
    reserved: m.integer('reserved', 1, vocabulary.length),
  };
}

function validateWordPiece(m: Members): TokenizerSpec {
  const text = (key: string) => {
    const value = m.get(key);
    if (typeof value === 'string') return value;
    throw m.fail(key, 'a text');
  };
  const template = (key: string) => {
    const list = m.array(key, 100);
    if (list.every((item) => Array.isArray(item) && item.length === 2)) return list as TokenTemplate[];
    throw m.fail(key, '[token, type] pairs');
  };
  return {
    kind: 'wordPiece',
    vocabulary: text('vocabulary'),
    unknown: m.integer('unknown', 0, MOST),
    prefix: text('prefix'),
    longestWord: m.integer('longestWord', 0, 1000),
    cleanText: m.boolean('cleanText'),
    ideographs: m.boolean('ideographs'),
    lowercase: m.boolean('lowercase'),
    stripAccents: m.boolean('stripAccents'),
    added: m.array('added', 10_000) as number[],
    mask: m.get('mask') === null ? null : m.integer('mask', 0, MOST),
    single: template('single'),
    pair: template('pair'),
  };
}

/** The specification of each weight from parsed JSON. @throws `ARTIFACT_WEIGHTS` */
export function validateSpecs(value: unknown): Map<string, WeightSpec> {
  new Members(value, 'weights', 'ARTIFACT_WEIGHTS');
  const specs = new Map<string, WeightSpec>();
  for (const [name, entry] of Object.entries(value as object)) {
    const m = new Members(entry, `weights[${JSON.stringify(name)}]`, 'ARTIFACT_WEIGHTS');
    const codec: Codec = m.choice('codec', [...CODECS, 'int32']);
    const shape = m.array('shape', 8);
    // Sizes that 32-bit arithmetic on elements, padding included, keeps exact.
    let product = 1;
    for (const d of shape) {
      if (typeof d !== 'number' || !Number.isInteger(d) || d < 1 || (product *= d) > MOST_ELEMENTS)
        throw m.fail('shape', 'sizes from 1, with at most 2^31 - 4 elements');
    }
    const optional = <T>(key: string, read: () => T) => (m.get(key) === undefined ? undefined : read());
    const spec = {
      codec,
      shape: shape as number[],
      groupSize: optional('groupSize', () => m.integer('groupSize', 32, 128)),
      scheme: optional('scheme', () => m.choice('scheme', ['symmetric', 'affine'])),
      scaleType: optional('scaleType', () => m.choice('scaleType', ['float32', 'float16'])),
      perTensor: optional('perTensor', () => m.boolean('perTensor')),
    };
    if (!optionsFit(spec))
      throw m.fail('codec', 'a codec that has these options, and groups that fit its columns');
    specs.set(name, specOf(spec));
  }
  if (specs.size === 0) throw invalid('ARTIFACT_WEIGHTS', 'weights', 'at least one weight', value);
  return specs;
}
