import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import { traceEncoder } from '../../src/model/encoder.ts';
import type { AttentionNode } from '../../src/program/ops/attention.ts';
import type { Program } from '../../src/program/program.ts';
import type { Configuration } from '../../src/runtime/configure.ts';
import { cosine } from '../outputs.ts';
import { readMails } from '../spam.ts';
import type { Subjects } from '../subjects.ts';
import { interleave } from '../timing.ts';
import { attentionCase, variants } from './cases.ts';
import { HEADS } from './inputs.ts';
import { relativeL1 } from './oracle.ts';
import { openCase } from './setting.ts';
import type { RealFigure } from './store.ts';

export const REAL_LENGTH = 4096;
/** Mechanisms whose worth shows only on what a real model computes. */
const ON_REAL = /^(dynamic.*|dense-int8.*|local)$/;
export const realNames = (): string[] =>
  variants()
    .map(({ name }) => name)
    .filter((name) => ON_REAL.test(name));

/**
 * Queries, keys and values `[3H, n, D]` of every layer for long documents in a row, positions tiled.
 * @param skip tokens of the corpus that come first and are left out
 */
export async function realActivations(
  subjects: Subjects,
  n: number,
  { features, tiles }: Pick<Configuration, 'features' | 'tiles'>,
  skip = 0,
): Promise<Float32Array[]> {
  const model = await subjects.model('float32');
  const tokenizing = await subjects.load('float32');
  const mails = await readMails(40, 20_000);
  const ids: number[] = [];
  for (const { text } of mails) {
    if (ids.length >= skip + n) break;
    ids.push(...(await tokenizing.tokenize(text)));
  }
  tokenizing.dispose();
  // The tokenizer cuts at the model's own length: a longer document is several pieces in a row.
  const document = ids.slice(skip, skip + n);
  if (document.length < n)
    throw new Error(`[bench] documents too short: expected ${skip + n} tokens, got ${ids.length}`);
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

/** Share of the pairs of blocks that a choice made at run time keeps. */
async function keptShare(
  { program, weights, inputs }: ReturnType<typeof attentionCase>,
  n: number,
  configuration: Configuration,
): Promise<number | null> {
  const node = program.nodes.find(({ kind }) => kind === 'selectBlocks');
  if (!node) return null;
  const [, entries, kept] = node.outputs;
  const open = await openCase(
    { program: { ...program, outputs: [kept, entries] }, weights, inputs },
    n,
    configuration,
  );
  const [counts, all] = await open.run();
  open.dispose();
  return counts.reduce((a, b) => a + b, 0) / (all.length / 2);
}

/** Error and speed of some mechanisms on one layer's own activations, each in turn with our dense attention. */
export async function measureLayer(
  layer: number,
  qkv: Float32Array,
  names: readonly string[],
  configuration: Configuration,
): Promise<RealFigure[]> {
  const headSize = qkv.length / (3 * HEADS * REAL_LENGTH);
  const cases = ['dense', ...names].map((name) =>
    attentionCase(variants().find((variant) => variant.name === name)!, headSize, REAL_LENGTH, qkv),
  );
  const open = await Promise.all(cases.map((made) => openCase(made, REAL_LENGTH, configuration)));
  const { mediansMs, ratios } = await interleave(
    open.map(({ compute }) => compute),
    { blocks: 3, blockMs: 1, rounds: 2, warmCalls: 1 },
  );
  const outputs: Float32Array[] = [];
  for (const one of open) {
    outputs.push((await one.run())[0]);
    one.dispose();
  }
  const figures: RealFigure[] = [];
  for (const [i, name] of names.entries()) {
    const [want, got] = [outputs[0], outputs[i + 1]];
    figures.push({
      name,
      layer,
      ms: mediansMs[i + 1],
      timesDense: 1 / ratios[i + 1],
      relativeL1: relativeL1(got, want),
      cosine: cosine(got, want),
      kept: await keptShare(cases[i + 1], REAL_LENGTH, configuration),
    });
  }
  return figures;
}
