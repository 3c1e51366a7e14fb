import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import { traceEncoder } from '../../src/model/encoder.ts';
import type { AttentionNode } from '../../src/program/ops/attention.ts';
import type { Program } from '../../src/program/program.ts';
import { type Configuration, configure } from '../../src/runtime/configure.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { cosine, median } from '../outputs.ts';
import { failedRow, type Row } from '../report.ts';
import { readMails } from '../spam.ts';
import type { Subjects } from '../subjects.ts';
import { interleave } from '../timing.ts';
import { attentionCase, variants } from './cases.ts';
import { relativeL1 } from './oracle.ts';

const LENGTH = 4096;
/** Mechanisms whose worth shows only on what a real model computes. */
const ON_REAL = /^(dynamic|dense-int8|local$)/;

/** Queries, keys and values `[3H, n, D]` of every layer for one long document, positions tiled. */
export async function realActivations(
  subjects: Subjects,
  n: number,
  { features, tiles }: Configuration,
): Promise<Float32Array[]> {
  const model = await subjects.model('float32');
  const tokenizing = await subjects.load('float32');
  const mails = await readMails(40, 20_000);
  const ids: number[] = [];
  for (const { text } of mails) {
    if (ids.length >= n) break;
    ids.push(...(await tokenizing.tokenize(text)));
  }
  tokenizing.dispose();
  // The tokenizer cuts at the model's own length: a longer document is several pieces in a row.
  const document = ids.slice(0, n);
  if (document.length < n)
    throw new Error(`[bench] documents too short: expected ${n} tokens, got ${ids.length}`);
  const config = { ...model.config, tilePositions: true, maxLength: n };
  const traced = await traceEncoder(config, model.weights.specs);
  const outputs = traced.nodes
    .filter((node): node is AttentionNode => node.kind === 'attention')
    .map((node) => node.inputs[node.attributes.values.input]);
  const program: Program = { ...traced, outputs };
  const engine = await WasmEngine.create(program, model.weights.specs, { features, tiles, threads: 1 });
  const loader = engine.loader(model.weights.specs);
  for (const name of model.weights.specs.keys())
    loader.accept(name, 0, (await model.weights.read(name)).bytes);
  loader.finish();
  const inputs = {
    ids: Int32Array.from(document),
    lengths: Int32Array.of(n),
    types: new Int32Array(n),
  };
  const layers = await engine.run({ B: 1, N: n }, inputs);
  engine.dispose();
  return layers;
}

async function layerRow(
  variant: ReturnType<typeof variants>[number],
  layer: number,
  qkv: Float32Array,
  headSize: number,
  { features, tiles }: Configuration,
): Promise<Row> {
  const open = async (which: ReturnType<typeof variants>[number]) => {
    const made = attentionCase(which, headSize, LENGTH, qkv);
    if (made.refusal) throw new Error(made.refusal);
    const engine = await WasmEngine.create(made.program, made.weights, { features, tiles, threads: 1 });
    const loader = engine.loader(made.weights);
    for (const [name, { bytes }] of made.weights) loader.accept(name, 0, bytes);
    loader.finish();
    return { engine, run: async () => (await engine.run({ B: 1, N: LENGTH }, made.inputs))[0] };
  };
  const dense = await open(variants().find(({ name }) => name === 'dense')!);
  const other = await open(variant);
  const { mediansMs, ratios } = await interleave([dense.run, other.run], {
    blocks: 3,
    blockMs: 1,
    rounds: 1,
    warmCalls: 1,
  });
  const [want, got] = [await dense.run(), await other.run()];
  dense.engine.dispose();
  other.engine.dispose();
  const perHead = cosine(got, want);
  return {
    id: `real-${variant.name}-layer${layer}-n${LENGTH}`,
    metric: 'attention alone on a long document inside MiniLM; peer: our dense attention',
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[1],
    peers: { 'our dense': mediansMs[0] },
    ratio: 1 / ratios[1],
    agrees: null,
    tolerance: null,
    details: { relativeL1: relativeL1(got, want), cosine: perHead },
  };
}

/** Error and speed on MiniLM's own activations, layer by layer, and the whole model's speed-up. */
export async function realRows(subjects: Subjects): Promise<Row[]> {
  const model = await subjects.model('float32');
  const configuration = await configure(model.config, { threads: 1 }, nodePlatform);
  const out: Row[] = [];
  let layers: Float32Array[];
  try {
    layers = await realActivations(subjects, LENGTH, configuration);
  } catch (error) {
    return [failedRow(`real-n${LENGTH}`, error)];
  }
  for (const variant of variants().filter(({ name }) => ON_REAL.test(name))) {
    const own: Row[] = [];
    for (const [layer, qkv] of layers.entries()) {
      const id = `real-${variant.name}-layer${layer}-n${LENGTH}`;
      const { headSize } = model.config.layers[layer];
      own.push(
        await layerRow(variant, layer, qkv, headSize, configuration).catch((error) => failedRow(id, error)),
      );
    }
    out.push(...own);
    const worst = Math.max(...own.map(({ details }) => Number(details?.relativeL1 ?? Infinity)));
    out.push({
      ...failedRow(`real-${variant.name}-n${LENGTH}`, ''),
      metric: 'largest relative L1 of a layer; peer: median speed-up over our dense',
      ours: worst,
      peers: { 'speed-up': median(own.map(({ ratio }) => ratio ?? 0)) },
      note: undefined,
    });
  }
  return out;
}
