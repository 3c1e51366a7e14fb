import type { Calibration, LayerSample, Tensor } from '../attention/mechanism.ts';
import { WasmEngine } from '../backend/wasm/engine.ts';
import { createTokenizer } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { type LinearNode, padHead } from '../program/ops/linear.ts';
import type { Program, Stage, Value } from '../program/program.ts';
import { configure } from '../runtime/configure.ts';
import { nodePlatform } from '../runtime/node/platform.ts';
import { AttenuateError } from '../tensor/error.ts';

export interface CalibrationOptions {
  /** Most texts that are used, the first ones. Default 64. */
  readonly maxTexts?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: {
    readonly layer: number;
    readonly done: number;
    readonly total: number;
  }) => void;
}

/** The product by head of one layer, and what went into it. */
interface Tap {
  readonly x: Value;
  readonly qkv: Value;
}

/**
 * What some texts look like inside a model. Nothing is kept: a layer is run again each time it is asked for, one
 * text at a time, so that memory stays that of one text.
 * @throws `CALIBRATION_EMPTY` without a text, `NO_TOKENIZER`; while iterating `CALIBRATION_LAYER` for a layer that
 * does not project queries, keys and values together
 */
export async function calibrationFrom(
  model: Model,
  texts: readonly string[],
  options: CalibrationOptions = {},
): Promise<Calibration> {
  const { maxTexts = 64, signal, onProgress } = options;
  if (texts.length === 0)
    throw new AttenuateError(
      'CALIBRATION_EMPTY',
      '[calibrate] no text: expected at least one, got none. Pass text like that which the model will see.',
    );
  if (!model.tokenizer)
    throw new AttenuateError(
      'NO_TOKENIZER',
      '[calibrate] model without a tokenizer: expected one in the file, got none. Use a model that has one.',
    );
  const tokenizer = createTokenizer(model.tokenizer, model.config.maxLength);
  const sequences = texts.slice(0, maxTexts).map((text) => tokenizer.encode(text));
  const program = await traceEncoder(model.config, model.weights.specs);
  return {
    async *layer(index) {
      const stage = program.stages.find(({ name }) => name === `layer ${index}`);
      if (!stage) return;
      const engine = await openAt(model, program, stage, tapOf(program, stage, index));
      try {
        for (const [done, { ids, types }] of sequences.entries()) {
          signal?.throwIfAborted();
          const n = ids.length;
          const inputs: Record<string, Int32Array> = { ids: Int32Array.from(ids), lengths: Int32Array.of(n) };
          if (model.config.tokenTypes > 0) inputs.types = Int32Array.from(types);
          const [x, qkv] = await engine.run({ B: 1, N: n, P: 1 }, inputs, signal);
          yield sampleOf(model, index, n, x, qkv);
          onProgress?.({ layer: index, done: done + 1, total: sequences.length });
        }
      } finally {
        engine.dispose();
      }
    },
  };
}

/** Finds the product that a layer's queries, keys and values come from. */
function tapOf(program: Program, { from, to }: Stage, layer: number): Tap {
  const nodes = program.nodes.slice(from, to);
  const product = nodes.find(
    (node): node is LinearNode => node.kind === 'linear' && !!(node as LinearNode).attributes.heads,
  );
  if (product?.attributes.parts !== 3)
    throw new AttenuateError(
      'CALIBRATION_LAYER',
      `[calibrate] layer ${layer} has no queries, keys and values to look at: expected all three in one product, got another mechanism. Calibrate before that step.`,
      { layer },
    );
  // An int8 product reads codes; the row before them is what the layer saw.
  const [input] = product.inputs;
  const maker = program.nodes.find((node) => node.outputs.includes(input));
  const x = maker?.kind === 'quantizeRows' ? maker.inputs[0] : input;
  return { x, qkv: product.outputs[0] };
}

async function openAt(model: Model, program: Program, stage: Stage, tap: Tap): Promise<WasmEngine> {
  const last = program.nodes.findIndex((node) => node.outputs.includes(tap.qkv));
  const cut: Program = {
    inputs: program.inputs.filter(({ name }) => name !== 'rows'),
    outputs: [tap.x, tap.qkv],
    nodes: program.nodes.slice(0, last + 1),
    stages: [...program.stages.filter(({ to }) => to <= stage.from), { ...stage, to: last + 1 }],
  };
  const { features, tiles } = await configure(model.config, { threads: 1 }, nodePlatform);
  const used = new Set(cut.nodes.flatMap((node) => node.parameters.map(({ name }) => name)));
  const specs = new Map([...model.weights.specs].filter(([name]) => used.has(name)));
  const engine = await WasmEngine.create(cut, specs, { features, tiles, threads: 1 });
  const loader = engine.loader(specs);
  for (const name of specs.keys()) loader.accept(name, 0, (await model.weights.read(name)).bytes);
  loader.finish();
  return engine;
}

function sampleOf(model: Model, index: number, n: number, x: Float32Array, qkv: Float32Array): LayerSample {
  const { heads, headSize, inputSize } = model.config.layers[index];
  const pitch = padHead(headSize);
  const part = (which: number): Tensor => {
    const data = new Float32Array(heads * n * headSize);
    for (let row = 0; row < heads * n; row++) {
      const from = (which * heads * n + row) * pitch;
      data.set(qkv.subarray(from, from + headSize), row * headSize);
    }
    return { shape: [heads, n, headSize], data };
  };
  return { n, x: { shape: [n, inputSize], data: x }, queries: part(0), keys: part(1), values: part(2) };
}
