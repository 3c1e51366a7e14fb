import { isAbsolute, join, normalize } from 'node:path';
import type { HeadSpec } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { unsupported } from './huggingface-config.ts';
import { isObject, type JsonObject, readJsonFile, readJsonObject } from './json-file.ts';
import { openTensorFiles, type ShardedTensor, type TensorFiles } from './safetensors-files.ts';

type EmbeddingHead = Extract<HeadSpec, { kind: 'embedding' }>;

/** What a Sentence Transformers folder puts behind its encoder. */
export interface SentenceHead {
  readonly head: EmbeddingHead;
  /** Folder of the encoder itself: the folder given, or one inside it. */
  readonly encoderFolder: string;
  readonly weights: ReadonlyMap<string, ShardedTensor>;
  readonly files: readonly TensorFiles[];
}

const POOLING = {
  pooling_mode_cls_token: 'first',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_max_tokens: 'max',
  pooling_mode_mean_sqrt_len_tokens: 'sqrtMean',
} as const;
const POOLING_NAMES: Readonly<Record<string, EmbeddingHead['pooling']>> = {
  cls: 'first',
  mean: 'mean',
  max: 'max',
  mean_sqrt_len_tokens: 'sqrtMean',
};

/**
 * Reads `modules.json` and what it names: Transformer, Pooling, then optionally Dense with tanh, then optionally
 * Normalize. Null when the folder has no `modules.json`.
 * @throws `HF_MODULES` when it is malformed, `HF_UNSUPPORTED` for other modules, orders or pooling modes
 */
export async function readSentenceHead(folder: string): Promise<SentenceHead | null> {
  const value = await readJsonFile(join(folder, 'modules.json'));
  if (value === null) return null;
  const modules = parseModules(value, folder);
  const kinds = modules.map(({ kind }) => kind).join(' → ');
  if (!/^Transformer → Pooling( → Dense)?( → Normalize)?$/.test(kinds))
    throw unsupported(
      'modules that cannot be run',
      'Transformer → Pooling, then optionally Dense and Normalize',
      kinds || 'none',
      'Choose another model.',
    );
  const at = (kind: string) => modules.find((module) => module.kind === kind)?.folder ?? null;
  const pooling = poolingOf((await readJsonObject(join(at('Pooling')!, 'config.json'))) ?? {});
  const dense = at('Dense');
  const { weights, files } = dense === null ? { weights: new Map(), files: [] } : await readDense(dense);
  return {
    head: { kind: 'embedding', pooling, dense: dense !== null, normalize: at('Normalize') !== null },
    encoderFolder: at('Transformer')!,
    weights,
    files,
  };
}

function parseModules(value: unknown, folder: string): { kind: string; folder: string }[] {
  const bad = (got: unknown) =>
    new AttenuateError(
      'HF_MODULES',
      `[huggingface] bad modules.json: expected modules with a type and a path inside the folder, got ${JSON.stringify(got)?.slice(0, 200)}. Download the folder again.`,
      { folder },
    );
  if (!Array.isArray(value)) throw bad(value);
  return value.map((module: unknown) => {
    if (!isObject(module) || typeof module.type !== 'string' || typeof module.path !== 'string')
      throw bad(module);
    const path = normalize(module.path.replaceAll('\\', '/'));
    if (isAbsolute(path) || path.split(/[\\/]/).includes('..')) throw bad(module);
    return { kind: module.type.split('.').at(-1)!, folder: join(folder, path) };
  });
}

function poolingOf(config: JsonObject): EmbeddingHead['pooling'] {
  const advice = 'Choose a model with one pooling mode out of those.';
  const supported = Object.values(POOLING).join(', ');
  if (typeof config.pooling_mode === 'string') {
    if (Object.hasOwn(POOLING_NAMES, config.pooling_mode)) return POOLING_NAMES[config.pooling_mode];
    throw unsupported('pooling that cannot be run', supported, config.pooling_mode, advice);
  }
  const modes = Object.keys(config).filter((key) => key.startsWith('pooling_mode_') && config[key] === true);
  if (modes.length === 1 && Object.hasOwn(POOLING, modes[0]))
    return POOLING[modes[0] as keyof typeof POOLING];
  throw unsupported(
    'pooling that cannot be run',
    `one of ${supported}`,
    modes.join(' and ') || 'none',
    advice,
  );
}

async function readDense(folder: string): Promise<Pick<SentenceHead, 'weights' | 'files'>> {
  const config = (await readJsonObject(join(folder, 'config.json'))) ?? {};
  if (!/(^|\.)Tanh$/.test(String(config.activation_function)) || config.bias === false)
    throw unsupported(
      'dense module that cannot be run',
      'tanh and a bias',
      `${config.activation_function}, bias ${config.bias}`,
      'Choose another model.',
    );
  const files = await openTensorFiles(folder);
  const weights = new Map<string, ShardedTensor>();
  for (const part of ['weight', 'bias']) {
    const tensor = files.tensors.get(`linear.${part}`);
    if (tensor) weights.set(`${names.head.dense}.${part}`, tensor);
  }
  if (weights.size === 2) return { weights, files: [files] };
  await files.close();
  throw new AttenuateError(
    'HF_WEIGHT_MISSING',
    `[huggingface] missing weight: expected linear.weight and linear.bias in ${folder}, got ${[...files.tensors.keys()].join(', ') || 'none'}. Download the folder again.`,
    { folder },
  );
}
