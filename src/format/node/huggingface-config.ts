import type { EncoderConfig, LayerSpec } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { JsonObject } from './json-file.ts';

export const SUPPORTED_TYPES = ['bert', 'distilbert'] as const;
export type HuggingFaceType = (typeof SUPPORTED_TYPES)[number];

const ACTIVATIONS: Readonly<Record<string, LayerSpec['activation']>> = {
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'geluTanh',
  gelu_fast: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  relu: 'relu',
  tanh: 'tanh',
};

export const unsupported = (what: string, expected: string, got: unknown, advice: string) =>
  new AttenuateError(
    'HF_UNSUPPORTED',
    `[huggingface] ${what}: expected ${expected}, got ${typeof got === 'string' ? got : JSON.stringify(got)}. ${advice}`,
    { expected, got },
  );

/** A number of `config.json`. @throws `HF_CONFIG` unless it is an integer from 1 to `most`, or absent with a default */
export function count(config: JsonObject, key: string, fallback?: number, most = 10_000_000): number {
  const value = config[key] ?? fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new AttenuateError(
    'HF_CONFIG',
    `[huggingface] bad ${key} in config.json: expected an integer from 1 to ${most}, got ${JSON.stringify(value)}. Check that the folder is complete and unmodified.`,
    { key, value },
  );
}

/** What `config.json` says of the encoder; length and head come from other files. */
export type EncoderShape = Omit<EncoderConfig, 'architecture' | 'maxLength' | 'head'> & {
  readonly architecture: HuggingFaceType;
};

/**
 * The encoder's shape from a Hugging Face `config.json`.
 * @throws `HF_MODEL_TYPE` for any other type than bert and distilbert, `HF_UNSUPPORTED` for options that would
 *   change what the model computes, `HF_CONFIG` for missing or impossible numbers
 */
export function encoderShape(config: JsonObject): EncoderShape {
  const architecture = SUPPORTED_TYPES.find((type) => type === config.model_type);
  if (!architecture)
    throw new AttenuateError(
      'HF_MODEL_TYPE',
      `[huggingface] model type that cannot be read: expected ${SUPPORTED_TYPES.join(' or ')}, got ${JSON.stringify(config.model_type)}. Choose a model of a supported type.`,
      { modelType: config.model_type, supported: SUPPORTED_TYPES },
    );
  const bert = architecture === 'bert';
  const positionType = config.position_embedding_type ?? 'absolute';
  if (positionType !== 'absolute')
    throw unsupported(
      'position embedding that cannot be run',
      'absolute',
      positionType,
      'Choose another model.',
    );
  if (config.is_decoder === true || config.add_cross_attention === true)
    throw unsupported('decoder', 'an encoder', 'is_decoder or add_cross_attention', 'Choose an encoder.');
  if (Object.keys((config.pruned_heads as object | undefined) ?? {}).length > 0)
    throw unsupported(
      'heads pruned by the library',
      'no pruned_heads',
      config.pruned_heads,
      'Save the model unpruned; a recipe can prune it here.',
    );
  const size = count(config, bert ? 'hidden_size' : 'dim', undefined, 65_536);
  const heads = count(config, bert ? 'num_attention_heads' : 'n_heads', undefined, 4096);
  if (size % heads !== 0)
    throw new AttenuateError(
      'HF_CONFIG',
      `[huggingface] heads that do not divide the width: expected a divisor of ${size}, got ${heads} heads. Check config.json.`,
      { size, heads },
    );
  const layer: LayerSpec = {
    inputSize: size,
    outputSize: size,
    heads,
    headSize: size / heads,
    feedForwardSize: count(config, bert ? 'intermediate_size' : 'hidden_dim', undefined, 1_000_000),
    activation: activationOf((bert ? config.hidden_act : config.activation) ?? 'gelu'),
    attention: { kind: 'dense' },
  };
  return {
    architecture,
    vocabularySize: count(config, 'vocab_size'),
    embeddingSize: size,
    positions: count(config, 'max_position_embeddings', undefined, 1_000_000),
    tilePositions: false,
    tokenTypes: bert ? count(config, 'type_vocab_size', 2, 1000) : 0,
    wordScale: 1,
    embeddingNorm: true,
    norm: 'post',
    epsilon: bert ? epsilonOf(config) : 1e-12,
    layers: Array.from(
      { length: count(config, bert ? 'num_hidden_layers' : 'n_layers', undefined, 1000) },
      () => layer,
    ),
  };
}

function activationOf(name: unknown): LayerSpec['activation'] {
  if (typeof name === 'string' && Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  throw unsupported(
    'activation that cannot be run',
    Object.keys(ACTIVATIONS).join(', '),
    name,
    'Choose another model.',
  );
}

function epsilonOf(config: JsonObject): number {
  const value = config.layer_norm_eps ?? 1e-12;
  if (typeof value === 'number' && value > 0 && value < 1) return value;
  throw new AttenuateError(
    'HF_CONFIG',
    `[huggingface] bad layer_norm_eps: expected a number between 0 and 1, got ${JSON.stringify(value)}. Check config.json.`,
    { value },
  );
}
