import { memoryStore } from '../../format/memory-store.ts';
import type { EncoderConfig, Model, TokenizerSpec } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { decode, encode, type Weight } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { FoldedTables } from '../../train/fold.ts';
import type { ObservedInputs } from '../quantize/statistics.ts';
import { factoriseTable, timesProjection } from './factorise.ts';
import {
  cutLayer,
  headScores,
  type KeptParts,
  largest,
  neuronScores,
  type ReadFloats,
  submatrix,
  subvector,
} from './layer-weights.ts';
import { pruneNeurons } from './neurons.ts';
import { layerMap, type StudentSpec } from './student-spec.ts';
import { pruneVocabulary } from './vocabulary.ts';

/** What of the text a student is made from. */
export interface StudentText {
  /** Occurrences of each of the teacher's tokens: for a pruned vocabulary, and to weigh a factorised table. */
  readonly counts?: ArrayLike<number>;
  /** The layers below the first that is kept, as tables. */
  readonly folded?: FoldedTables;
  /** What the down products of the teacher's layers read, with moments: neurons are else chosen by weights alone. */
  readonly observed?: ObservedInputs;
}

type Tensors = Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/**
 * An untrained student: layers, channels, heads and neurons cut out of the teacher by how much they can add, its
 * vocabulary pruned to the text, its table factorised; in float32, with the teacher's head. Whatever the
 * specification leaves out stays, so that an empty one gives the teacher's own function.
 * @throws `STUDENT_UNSUPPORTED` for a teacher of another form than BERT's, `STUDENT_SIZE` for a size above the
 *   teacher's, `STUDENT_LAYERS`, `VOCABULARY_UNSUPPORTED`, `VOCABULARY_SIZE`
 */
export async function buildStudent(
  teacher: Model,
  spec: StudentSpec,
  text: StudentText = {},
): Promise<Model> {
  const { config } = teacher;
  const [first] = config.layers;
  expectForm(config);
  expectSizes(config, spec);
  const read: ReadFloats = async (name) => decode(await teacher.weights.read(name));
  const map = layerMap(spec, config.layers.length);
  const C = config.embeddingSize;
  const tensors: Tensors = new Map();
  const { tokenizer, word, counts } = await wordTable(teacher, spec, text, read);
  const channels = largest(spread(word, C, counts), spec.width ?? C);
  for (const [to, from] of map.entries()) {
    const layer = config.layers[from];
    const at = names.layer(from);
    const size = spec.feedForwardSize ?? layer.feedForwardSize;
    const seen = size < layer.feedForwardSize ? text.observed?.get(`${at.down}.weight`) : undefined;
    const down = await read(`${at.down}.weight`);
    const pruned = seen && pruneNeurons(down, await read(`${at.down}.bias`), seen, size);
    const kept: KeptParts = {
      channels,
      heads: largest(
        headScores(await read(`${at.output}.weight`), await read(`${at.value}.weight`), C, layer.headSize),
        spec.heads ?? layer.heads,
      ),
      neurons: pruned?.neurons ?? largest(neuronScores(await read(`${at.up}.weight`), down, C), size),
    };
    for (const [name, tensor] of await cutLayer(read, from, to, kept, { ...layer, channels: C }))
      tensors.set(name, tensor);
    if (pruned) {
      const target = names.layer(to).down;
      const all = Array.from({ length: size }, (_, i) => i);
      tensors.set(`${target}.weight`, {
        shape: [channels.length, size],
        data: submatrix(pruned.weight, size, channels, all),
      });
      tensors.set(`${target}.bias`, { shape: [channels.length], data: subvector(pruned.bias, channels) });
    }
  }
  const maxLength = spec.maxLength ?? config.maxLength;
  const tables = await inputTables(config, spec, { word, counts, channels, maxLength, text, read });
  for (const [name, tensor] of tables.tensors) tensors.set(name, tensor);
  for (const [name, tensor] of await headTensors(teacher, channels, read)) tensors.set(name, tensor);
  return {
    ...teacher,
    tokenizer,
    config: {
      ...config,
      ...tables.config,
      vocabularySize: word.length / C,
      embeddingSize: channels.length,
      maxLength,
      layers: map.map((from) => ({
        ...config.layers[from],
        inputSize: channels.length,
        outputSize: channels.length,
        heads: spec.heads ?? first.heads,
        feedForwardSize: spec.feedForwardSize ?? first.feedForwardSize,
      })),
    },
    weights: memoryStore(
      new Map(
        [...tensors].map(([name, { shape, data }]): [string, Weight] => [
          name,
          encode({ codec: 'float32', shape }, data),
        ]),
      ),
    ),
  };
}

/** The word table that the student begins with, in the teacher's width, and how often each row is read. */
async function wordTable(
  teacher: Model,
  spec: StudentSpec,
  text: StudentText,
  read: ReadFloats,
): Promise<{ tokenizer: TokenizerSpec | null; word: Float32Array; counts: Float64Array }> {
  const { embeddingSize: C, vocabularySize: V } = teacher.config;
  const whole = spec.fold ? expectFolded(text).word : await read(names.word);
  const all = text.counts ?? text.folded?.counts ?? new Float64Array(V);
  // Half an occurrence for what the text lacks: the model may yet meet it.
  const weight = (id: number) => all[id] + 0.5;
  if (spec.vocabulary === undefined || spec.vocabulary >= V)
    return {
      tokenizer: teacher.tokenizer,
      word: whole,
      counts: Float64Array.from({ length: V }, (_, i) => weight(i)),
    };
  const { tokenizer, kept } = pruneVocabulary(teacher.tokenizer, spec.vocabulary, all);
  const columns = Array.from({ length: C }, (_, c) => c);
  return {
    tokenizer,
    word: submatrix(whole, C, [...kept], columns),
    counts: Float64Array.from(kept, weight),
  };
}

interface TableParts {
  readonly word: Float32Array;
  readonly counts: Float64Array;
  readonly channels: readonly number[];
  readonly maxLength: number;
  readonly text: StudentText;
  readonly read: ReadFloats;
}

/** Word, position and type tables with the projection and the norm that follow them. */
async function inputTables(
  config: EncoderConfig,
  spec: StudentSpec,
  { word, counts, channels, maxLength, text, read }: TableParts,
): Promise<{ tensors: Tensors; config: Partial<EncoderConfig> }> {
  const C = config.embeddingSize;
  const rows = (table: Float32Array, count: number) =>
    submatrix(
      table,
      C,
      Array.from({ length: count }, (_, i) => i),
      channels,
    );
  const width = channels.length;
  const V = word.length / C;
  const positions = Math.min(config.positions, maxLength);
  let types = config.tokenTypes;
  const tables = new Map<string, Float32Array>([[names.word, rows(word, V)]]);
  if (spec.fold) {
    // Places beyond those that were seen have nothing to add.
    const place = new Float32Array(positions * C);
    place.set(expectFolded(text).position.subarray(0, place.length));
    tables.set(names.position, rows(place, positions));
    types = 0;
  } else {
    if (positions > 0) tables.set(names.position, rows(await read(names.position), positions));
    if (types > 0) tables.set(names.tokenType, rows(await read(names.tokenType), types));
  }
  const tensors: Tensors = new Map();
  const norm = config.embeddingNorm && !spec.fold;
  if (norm)
    for (const part of ['scale', 'bias']) {
      const name = `${names.embeddingNorm}.${part}`;
      tensors.set(name, { shape: [width], data: subvector(await read(name), channels) });
    }
  const narrow = spec.tableSize !== undefined && spec.tableSize < width ? spec.tableSize : null;
  if (narrow) {
    const mean = meanRow(tables.get(names.word)!, width, counts);
    const { table, projection } = factoriseTable(
      withoutMean(tables.get(names.word)!, mean),
      width,
      narrow,
      counts,
    );
    for (const [name, rows] of tables)
      tables.set(name, name === names.word ? table : timesProjection(rows, width, projection, narrow));
    tensors.set(`${names.projection}.weight`, { shape: [width, narrow], data: projection });
    tensors.set(`${names.projection}.bias`, { shape: [width], data: mean });
  }
  for (const [name, data] of tables)
    tensors.set(name, { shape: [data.length / (narrow ?? width), narrow ?? width], data });
  return {
    tensors,
    config: {
      positions,
      tokenTypes: types,
      embeddingNorm: norm,
      wordScale: spec.fold ? 1 : config.wordScale,
      ...(narrow ? { tableSize: narrow } : {}),
    },
  };
}

/** What the head has: all of it, with fewer columns where the student is narrower. */
async function headTensors(
  { config, weights }: Model,
  channels: readonly number[],
  read: ReadFloats,
): Promise<Tensors> {
  const out: Tensors = new Map();
  for (const [name, { shape }] of weights.specs) {
    if (!name.startsWith('head.')) continue;
    const data = await read(name);
    if (shape.length === 2 && shape[1] === config.embeddingSize) {
      const square = name.startsWith(names.head.pooler);
      const rows = square ? channels : Array.from({ length: shape[0] }, (_, i) => i);
      out.set(name, {
        shape: [rows.length, channels.length],
        data: submatrix(data, shape[1], rows, channels),
      });
    } else if (name.startsWith(names.head.pooler)) {
      out.set(name, { shape: [channels.length], data: subvector(data, channels) });
    } else out.set(name, { shape: [...shape], data });
  }
  return out;
}

/** Weighted sum of squares of each column. */
function spread(table: Float32Array, columns: number, weights: Float64Array): Float64Array {
  const out = new Float64Array(columns);
  for (let i = 0; i < table.length; i++) out[i % columns] += weights[Math.floor(i / columns)] * table[i] ** 2;
  return out;
}

function meanRow(table: Float32Array, columns: number, weights: Float64Array): Float32Array {
  const sum = new Float64Array(columns);
  let total = 0;
  weights.forEach((weight, r) => {
    total += weight;
    for (let c = 0; c < columns; c++) sum[c] += weight * table[r * columns + c];
  });
  return Float32Array.from(sum, (x) => x / total);
}

const withoutMean = (table: Float32Array, mean: Float32Array): Float32Array =>
  table.map((x, i) => x - mean[i % mean.length]);

function expectFolded({ folded }: StudentText): FoldedTables {
  if (folded) return folded;
  throw new AttenuateError(
    'FOLD_TEXT',
    '[distill] layers cannot be folded into tables without text: expected some, got none. Give text, or leave "fold" out.',
  );
}

function expectForm(config: EncoderConfig): void {
  const { norm, tableSize, head, layers } = config;
  const attention = layers.find((l) => l.attention.kind !== 'dense');
  const plain = layers.every((l) => l.inputSize === config.embeddingSize && l.outputSize === l.inputSize);
  if (norm !== 'post' || tableSize !== undefined || !plain || attention || head.kind === 'maskedToken')
    throw new AttenuateError(
      'STUDENT_UNSUPPORTED',
      `[distill] teacher that no student can be cut from: expected BERT's form with dense attention and one width, got ${attention ? attention.attention.kind : `${config.architecture}, ${norm} norm`}. Distil from the original model.`,
      { architecture: config.architecture },
    );
}

function expectSizes(config: EncoderConfig, spec: StudentSpec): void {
  const [first] = config.layers;
  const most = {
    width: config.embeddingSize,
    heads: first.heads,
    feedForwardSize: first.feedForwardSize,
    maxLength: config.maxLength,
  };
  for (const [name, limit] of Object.entries(most)) {
    const got = spec[name as keyof typeof most];
    if (got !== undefined && got > limit)
      throw new AttenuateError(
        'STUDENT_SIZE',
        `[distill] student larger than its teacher: expected ${name} of at most ${limit}, got ${got}. Lower it.`,
        { name, limit, got },
      );
  }
}
