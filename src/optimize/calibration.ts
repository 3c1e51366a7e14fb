import type { Calibration, LayerSample, Tensor } from '../attention/mechanism.ts';
import type { WasmEngine } from '../backend/wasm/engine.ts';
import type { Model } from '../model/config.ts';
import { layerShape, traceEncoder } from '../model/encoder.ts';
import { names } from '../model/names.ts';
import { type LinearNode, padHead } from '../program/ops/linear.ts';
import type { Program, Stage, Value } from '../program/program.ts';
import { openProgram } from '../runtime/open-program.ts';
import { AttenuateError } from '../tensor/error.ts';
import { inputsOf, sequencesOf } from './sequences.ts';

export interface CalibrationOptions {
  /** Most texts that are used; of more, a seeded choice in their own order. Default 64. */
  readonly maxTexts?: number;
  /** Tokens at which a text is cut, special ones included; at most the model's own. Default 512. */
  readonly maxTokens?: number;
  readonly seed?: number;
  /** Samples of the layer that was read last are kept up to this size. Default 256 MiB. */
  readonly cacheBytes?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CalibrationProgress) => void;
}

export interface CalibrationProgress {
  readonly layer: number;
  readonly done: number;
  readonly total: number;
}

/** What some texts look like inside a model, and how much text that is. */
export interface TextCalibration extends Calibration {
  readonly sequences: number;
  readonly tokens: number;
}

/** The products that a layer's queries, keys and values come from, and what went into them. */
interface Tap {
  readonly x: Value;
  /** For query, key and value: the product, and the first of its heads. */
  readonly parts: readonly { readonly value: Value; readonly from: number }[];
}

/**
 * What some texts look like inside a model. Samples are computed one text at a time, and those of at most one layer
 * are kept, within `cacheBytes`: a layer that is read again is else run again. The same texts, seed and machine give
 * the same samples.
 * @throws `CALIBRATION_EMPTY` without a text, `NO_TOKENIZER`; while iterating `CALIBRATION_LAYER` for a layer that
 * does not project queries, keys and values of every head
 */
export async function calibrationFrom(
  model: Model,
  texts: readonly string[],
  options: CalibrationOptions = {},
): Promise<TextCalibration> {
  const {
    maxTexts = 64,
    maxTokens = 512,
    seed = 1,
    cacheBytes = 256 * 2 ** 20,
    signal,
    onProgress,
  } = options;
  const sequences = await sequencesOf(model, texts, { maxTexts, maxTokens, seed });
  const program = await traceEncoder(model.config, model.weights.specs);
  let cached: { readonly layer: number; readonly samples: readonly LayerSample[] } | null = null;

  async function* run(layer: number, stage: Stage): AsyncGenerator<LayerSample> {
    const tap = tapOf(program, stage, model, layer);
    const engine = await openAt(model, program, stage, tap);
    const kept: LayerSample[] = [];
    let room = cacheBytes;
    try {
      for (const [done, sequence] of sequences.entries()) {
        signal?.throwIfAborted();
        const n = sequence.ids.length;
        const [x, ...products] = await engine.run({ B: 1, N: n, P: 1 }, inputsOf(model, sequence), signal);
        const sample = sampleOf(model, layer, n, tap, x, products);
        room -= bytesOf(sample);
        if (room >= 0) kept.push(sample);
        else kept.length = 0;
        yield sample;
        onProgress?.({ layer, done: done + 1, total: sequences.length });
      }
      cached = room >= 0 ? { layer, samples: kept } : null;
    } finally {
      engine.dispose();
    }
  }

  return {
    sequences: sequences.length,
    tokens: sequences.reduce((sum, { ids }) => sum + ids.length, 0),
    async *layer(index) {
      const stage = program.stages.find(({ name }) => name === `layer ${index}`);
      if (!stage) return;
      if (cached?.layer === index) return yield* cached.samples;
      cached = null;
      yield* run(index, stage);
    },
  };
}

/** Finds the products that a layer's queries, keys and values come from. */
function tapOf(program: Program, { from, to }: Stage, { config }: Model, layer: number): Tap {
  const at = names.layer(layerShape(config, layer).index);
  const { heads } = config.layers[layer];
  const refused = () =>
    new AttenuateError(
      'CALIBRATION_LAYER',
      `[calibrate] layer ${layer} has no queries, keys and values of every head to look at: expected a product of each, got ${config.layers[layer].attention.kind}. Calibrate before that step.`,
      { layer, kind: config.layers[layer].attention.kind },
    );
  const nodes = program.nodes.slice(from, to);
  const found = (['query', 'key', 'value'] as const).map((part) => {
    for (const node of nodes) {
      if (node.kind !== 'linear') continue;
      const { attributes, parameters, inputs, outputs } = node as LinearNode;
      const place = parameters
        .slice(0, attributes.parts)
        .findIndex(({ name }) => name === `${at[part]}.weight`);
      const size = attributes.heads?.size;
      if (place < 0 || !size || parameters[place].shape[0] !== heads * size) continue;
      const before = parameters.slice(0, place).reduce((rows, { shape }) => rows + shape[0], 0);
      return { value: outputs[0], from: before / size, x: seenBy(program, inputs[0]) };
    }
    throw refused();
  });
  const [{ x }] = found;
  if (found.some((part) => part.x !== x)) throw refused();
  return { x, parts: found };
}

/** An integer product reads codes; the row before them is what the layer saw. */
function seenBy(program: Program, input: Value): Value {
  const maker = program.nodes.find((node) => node.outputs.includes(input));
  return maker?.kind === 'quantizeRows' || maker?.kind === 'quantizeBinary' ? maker.inputs[0] : input;
}

async function openAt(model: Model, program: Program, stage: Stage, { x, parts }: Tap): Promise<WasmEngine> {
  const products = [...new Set(parts.map(({ value }) => value))];
  const last = program.nodes.findLastIndex((node) => node.outputs.some((value) => products.includes(value)));
  const cut: Program = {
    inputs: program.inputs.filter(({ name }) => name !== 'rows'),
    outputs: [x, ...products],
    nodes: program.nodes.slice(0, last + 1),
    stages: [...program.stages.filter(({ to }) => to <= stage.from), { ...stage, to: last + 1 }],
  };
  return openProgram(model, cut);
}

/** @param products in the order of `openAt`'s outputs, each `[parts · H, 1, n, D′]` */
function sampleOf(
  { config }: Model,
  layer: number,
  n: number,
  tap: Tap,
  x: Float32Array,
  products: readonly Float32Array[],
): LayerSample {
  const { heads, headSize, inputSize } = config.layers[layer];
  const pitch = padHead(headSize);
  const order = [...new Set(tap.parts.map(({ value }) => value))];
  const [queries, keys, values] = tap.parts.map(({ value, from }): Tensor => {
    const product = products[order.indexOf(value)];
    const data = new Float32Array(heads * n * headSize);
    for (let row = 0; row < heads * n; row++) {
      const start = (from * n + row) * pitch;
      data.set(product.subarray(start, start + headSize), row * headSize);
    }
    return { shape: [heads, n, headSize], data };
  });
  return { n, x: { shape: [n, inputSize], data: x }, queries, keys, values };
}

const bytesOf = ({ x, queries, keys, values }: LayerSample): number =>
  [x, queries, keys, values].reduce((sum, { data }) => sum + data.byteLength, 0);
