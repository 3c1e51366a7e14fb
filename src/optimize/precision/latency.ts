import { createHash } from 'node:crypto';
import { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Features, Tiles } from '../../backend/wasm/kernels/kernel.ts';
import { formatWidth, type Width } from '../../compress/quantize/width.ts';
import { machineProfile } from '../../device/profile.ts';
import type { Model } from '../../model/config.ts';
import { embedding } from '../../program/ops/embedding.ts';
import { linear } from '../../program/ops/linear.ts';
import { type Tracer, trace } from '../../program/trace.ts';
import { configure, tilesKey } from '../../runtime/configure.ts';
import { loadModel } from '../../runtime/index.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import { elements, encode, type Weight } from '../../tensor/codec.ts';
import { symbol } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { Random } from '../../tensor/random.ts';
import { quantile } from '../metrics.ts';
import type { LatencyModel } from './mixture.ts';
import type { KeptResults } from './sensitivity.ts';
import type { Unit } from './units.ts';

export interface LatencyOptions {
  /** Tokens of the text that is timed. */
  readonly length: number;
  /** Times that were taken on this device before are not taken again. */
  readonly kept?: KeptResults;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly what: string; readonly fraction: number }) => void;
}

/** Format of what is kept; part of every key. */
const VERSION = 1;
const BLOCKS = 9;
const BLOCK_MS = 8;
/** Rows of a table that is timed, at most: what is looked up is as large whatever the table. */
const TABLE_ROWS = 4096;

/**
 * Times one text on this device: each product and table by itself in each of its widths, with the kernels that will
 * run it, and the whole model as it is. What the model takes beyond its products is the rest. Widths take turns, and
 * each figure is a median.
 */
export async function measureLatency(
  model: Model,
  units: readonly Unit[],
  options: LatencyOptions,
): Promise<LatencyModel> {
  const { length, kept, signal, onProgress } = options;
  const { features, tiles } = await configure(model.config, { threads: 1 }, nodePlatform);
  const { cpu, engine } = machineProfile();
  const device = [VERSION, cpu, engine, tilesKey(features), tiles, length];
  const keep = async <T>(name: unknown, measure: () => Promise<T>): Promise<T> => {
    signal?.throwIfAborted();
    const hash = createHash('sha256')
      .update(JSON.stringify([device, name]))
      .digest('hex');
    const before = await kept?.readJson<{ readonly value: T }>(hash);
    if (before) return before.value;
    const value = await measure();
    await kept?.writeJson(hash, { value });
    return value;
  };
  const shapes = new Map(units.map((unit) => [shapeKey(unit), unit]));
  const times = new Map<string, number | null>();
  let done = 0;
  for (const [shape, unit] of shapes) {
    onProgress?.({ what: `time [${unit.shape}]`, fraction: done++ / (shapes.size + 1) });
    // The model's own width is timed too: the rest is what remains when it is taken off.
    const widths = [{ codec: 'float32' } as const, ...unit.widths];
    const found = await keep([shape, widths.map(formatWidth)], () =>
      timeWidths(unit, widths, length, features, tiles),
    );
    for (const [i, width] of widths.entries()) times.set(`${shape} ${formatWidth(width)}`, found[i]);
  }
  const unitMs: LatencyModel['unitMs'] = (unit, width) =>
    times.get(`${shapeKey(unit)} ${formatWidth(width)}`) ?? null;
  onProgress?.({ what: 'time the model', fraction: shapes.size / (shapes.size + 1) });
  const wholeMs = await keep([model.config, [...model.weights.specs]], () =>
    timeModel(model, length, signal),
  );
  const own = units.reduce((sum, unit) => sum + (unitMs(unit, { codec: 'float32' }) ?? 0), 0);
  return { restMs: Math.max(0, wholeMs - own), unitMs };
}

const shapeKey = ({ shape, product }: Pick<Unit, 'shape' | 'product'>): string =>
  `${product ? 'product' : 'table'} ${product ? shape : shape.slice(1)}`;

/** Milliseconds of one unit in each width, taking turns; null where there is no kernel for it. */
async function timeWidths(
  { shape, product }: Unit,
  widths: readonly Width[],
  length: number,
  features: Features,
  tiles: Tiles,
): Promise<(number | null)[]> {
  const engines: WasmEngine[] = [];
  try {
    const calls: ((() => Promise<void>) | null)[] = [];
    for (const width of widths) {
      const weights = unitWeights(shape, product, width);
      const program = trace(weights, (t) => (product ? traceProduct(t, shape) : traceTable(t)));
      const engine = await WasmEngine.create(program, weights, { features, tiles, threads: 1 }).catch(
        (error: unknown) => {
          if (error instanceof AttenuateError && error.code === 'CODEC_UNSUPPORTED') return null;
          throw error;
        },
      );
      if (engine) engines.push(engine);
      calls.push(engine && ready(engine, weights, length));
    }
    const open = calls.filter((call) => call !== null);
    const times = await interleave(open);
    return calls.map((call) => (call ? times[open.indexOf(call)] : null));
  } finally {
    for (const engine of engines) engine.dispose();
  }
}

function unitWeights(shape: readonly number[], product: boolean, width: Width): Map<string, Weight> {
  const random = new Random(1);
  const own = product ? shape : [Math.min(TABLE_ROWS, shape[0]), shape[1]];
  const values = random.gaussians(elements(own), 0.05);
  const bias = encode('float32', [shape[0]], random.gaussians(shape[0]));
  return new Map([
    ['x.weight', encode({ ...width, shape: own }, values)],
    ...(product ? [['x.bias', bias] as const] : []),
  ]);
}

function traceProduct(t: Tracer, shape: readonly number[]): void {
  const x = t.input('x', 'float32', [symbol('B'), symbol('N'), shape[1]]);
  // The input is an output too, so that nothing is put in its place and every run reads the same.
  t.output(x);
  t.output(linear(t, x, [t.parameter('x.weight')], [t.parameter('x.bias')]));
}

function traceTable(t: Tracer): void {
  const ids = t.input('ids', 'int32', [symbol('B'), symbol('N')]);
  t.output(ids);
  t.output(embedding(t, ids, null, { word: t.parameter('x.weight') }));
}

/** A run of a loaded Program, with inputs that are there already. */
function ready(
  engine: WasmEngine,
  weights: ReadonlyMap<string, Weight>,
  length: number,
): () => Promise<void> {
  const loader = engine.loader(weights);
  for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
  loader.finish();
  const plan = engine.plan({ B: 1, N: length, P: 1 });
  engine.prepare(plan);
  const [input] = engine.program.inputs;
  const view = engine.view(plan, input);
  const rows = weights.get('x.weight')!.shape[0];
  const random = new Random(2);
  if (input.dtype === 'float32') view.set(random.gaussians(view.length));
  else for (let i = 0; i < view.length; i++) view[i] = Math.floor(random.uniform() * rows);
  return () => engine.compute(plan);
}

/** Median time of each call, in blocks that take turns. */
async function interleave(calls: readonly (() => Promise<unknown>)[]): Promise<number[]> {
  const block = async (call: () => Promise<unknown>, repeats: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) await call();
    return (performance.now() - start) / repeats;
  };
  const repeats: number[] = [];
  for (const call of calls) {
    await block(call, 3);
    repeats.push(Math.max(1, Math.ceil(BLOCK_MS / Math.max(1e-4, await block(call, 3)))));
  }
  const times: number[][] = calls.map(() => []);
  for (let round = 0; round < BLOCKS; round++)
    for (const [i, call] of calls.entries()) times[i].push(await block(call, repeats[i]));
  return times.map((list) => quantile(list, 0.5));
}

/** Median milliseconds of one text of so many tokens, by the model as it is stored. */
export async function timeModel(model: Model, length: number, signal?: AbortSignal): Promise<number> {
  const loaded = await loadModel(model, { threads: 1, signal });
  try {
    const ids = [Array.from({ length }, (_, i) => i % loaded.config.vocabularySize)];
    const [time] = await interleave([() => loaded.run(ids)]);
    return time;
  } finally {
    loaded.dispose();
  }
}
