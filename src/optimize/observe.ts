import { createHash } from 'node:crypto';
import { Gram } from '../backend/wasm/gram.ts';
import { probeFeatures } from '../backend/wasm/probe.ts';
import {
  InputObserver,
  type InputStatistics,
  type ObservedInputs,
  type ObserveRequest,
  type ProductInput,
  productInputs,
} from '../compress/index.ts';
import { hashModel } from '../format/hash-model.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import type { Program } from '../program/program.ts';
import { cutAt, openProgram } from '../runtime/open-program.ts';
import { AttenuateError } from '../tensor/error.ts';
import { inputsOf, type Sequence, type SequenceOptions, sequencesOf } from './sequences.ts';
import type { SavedInput, StatisticsCache } from './statistics-cache.ts';

export interface ObserveOptions extends Partial<SequenceOptions> {
  /** Keeps what was found, and where a pass that was cut short stood. */
  readonly cache?: StatisticsCache;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ObserveProgress) => void;
}

export interface ObserveProgress {
  readonly done: number;
  readonly total: number;
}

export interface TextObservation {
  readonly inputs: ObservedInputs;
  /** Texts that were run. */
  readonly sequences: number;
}

/** Format of what is kept; part of every key. */
const CACHE_VERSION = 2;
const SAVE_EVERY_MS = 20_000;

/**
 * Statistics of what products read when some texts run through a model: one pass, one text at a time, memory that
 * does not grow with the text. The same texts, seed and machine give the same statistics. Defaults: 512 texts of at
 * most 512 tokens, chosen by seed 1.
 * @throws `CALIBRATION_EMPTY` without a text, `CALIBRATION_PRODUCT` for a weight that no product reads,
 * `CALIBRATION_NOT_FINITE`, `NO_TOKENIZER`; the signal's reason after an abort, what was done being kept in the cache
 */
export async function observeInputs(
  model: Model,
  texts: readonly string[],
  request: ObserveRequest,
  options: ObserveOptions = {},
): Promise<TextObservation> {
  const { maxTexts = 512, maxTokens = 512, seed = 1, signal, cache } = options;
  signal?.throwIfAborted();
  const sequences = await sequencesOf(model, texts, { maxTexts, maxTokens, seed });
  const program = await traceEncoder(model.config, model.weights.specs);
  const wanted = wantedInputs(program, request.products);
  const key = cache && (await keyOf(model, sequences, request.products, signal));
  const pass = new Pass(model, wanted, request.moments);
  const saved = key && (await cache.read(key, pass.columns, request.moments));
  if (saved) pass.restore(saved.inputs);
  const save = async (done: number) => {
    if (key) await cache.write(key, { done, inputs: pass.saved() });
  };
  const from = saved ? saved.done : 0;
  if (from < sequences.length) await pass.run(program, sequences, from, options, save);
  return { inputs: pass.statistics(), sequences: sequences.length };
}

function wantedInputs(program: Program, products: readonly string[]): ProductInput[] {
  const all = productInputs(program);
  const missing = products.find((name) => !all.some((input) => input.products.includes(name)));
  if (missing !== undefined)
    throw new AttenuateError(
      'CALIBRATION_PRODUCT',
      `[calibrate] a weight that no product reads: expected one of ${all.flatMap((input) => input.products).join(', ')}, got ${missing}. Correct the name.`,
      { name: missing },
    );
  return all.filter((input) => input.products.some((name) => products.includes(name)));
}

async function keyOf(
  model: Model,
  sequences: readonly Sequence[],
  products: readonly string[],
  signal?: AbortSignal,
): Promise<string> {
  const parts = [CACHE_VERSION, await hashModel(model, signal), sequences, products];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** One pass of texts through a model, and what it has found so far. */
class Pass {
  private readonly model: Model;
  private readonly inputs: readonly ProductInput[];
  private readonly observers: readonly InputObserver[];
  private grams: (Gram | null)[];

  constructor(model: Model, inputs: readonly ProductInput[], moments: boolean) {
    this.model = model;
    this.inputs = inputs;
    this.observers = inputs.map(({ columns }) => new InputObserver(columns));
    const features = probeFeatures();
    this.grams = inputs.map(({ columns }) => (moments ? new Gram(columns, features) : null));
  }

  get columns(): number[] {
    return this.inputs.map(({ columns }) => columns);
  }

  saved(): SavedInput[] {
    return this.observers.map((observer, i) => ({
      state: observer.state(),
      total: this.grams[i]?.read() ?? null,
    }));
  }

  restore(saved: readonly SavedInput[]): void {
    for (const [i, { state, total }] of saved.entries()) {
      this.observers[i].restore(state);
      if (total) this.grams[i]?.restore(total);
    }
  }

  statistics(): Map<string, InputStatistics> {
    const out = new Map<string, InputStatistics>();
    for (const [i, { products }] of this.inputs.entries()) {
      const found = this.observers[i].statistics(this.grams[i]?.read() ?? null);
      // What was read out need not be held twice.
      this.grams[i] = null;
      for (const name of products) out.set(name, found);
    }
    return out;
  }

  /** @param save keeps the state after some texts; called now and then, and when all is done or an abort comes */
  async run(
    program: Program,
    sequences: readonly Sequence[],
    from: number,
    { signal, onProgress }: ObserveOptions,
    save: (done: number) => Promise<void>,
  ): Promise<void> {
    const cut = cutAt(
      program,
      this.inputs.flatMap(({ values }) => values),
    );
    const engine = await openProgram(this.model, cut);
    const picksRows = cut.inputs.some(({ name }) => name === 'rows');
    let last = performance.now();
    let done = from;
    try {
      while (done < sequences.length) {
        signal?.throwIfAborted();
        const sequence = sequences[done];
        const n = sequence.ids.length;
        const inputs = inputsOf(this.model, sequence);
        if (picksRows) inputs.rows = Int32Array.from({ length: n }, (_, i) => i);
        this.take(cut, await engine.run({ B: 1, N: n, P: n }, inputs, signal));
        done++;
        onProgress?.({ done, total: sequences.length });
        if (performance.now() - last > SAVE_EVERY_MS) {
          await save(done);
          last = performance.now();
        }
      }
      await save(done);
    } catch (error) {
      if (signal?.aborted) await save(done);
      throw error;
    } finally {
      engine.dispose();
    }
  }

  private take(cut: Program, outputs: readonly Float32Array[]): void {
    for (const [i, { values }] of this.inputs.entries())
      for (const value of values) {
        const rows = outputs[cut.outputs.indexOf(value)];
        this.observers[i].add(rows);
        this.grams[i]?.add(rows);
      }
  }
}
