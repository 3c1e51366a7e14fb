import { createHash } from 'node:crypto';
import type { ObservedInputs, StepContext } from '../../compress/index.ts';
import { formatWidth } from '../../compress/quantize/width.ts';
import { hashModel } from '../../format/hash-model.ts';
import type { Model, WeightStore } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import type { Role } from '../../model/roles.ts';
import { byteSize, columnsOf, decode, encode, type Weight, type WeightSpec } from '../../tensor/codec.ts';
import { observeInputs } from '../observe.ts';
import { type Sequence, type SequenceOptions, sequencesOf } from '../sequences.ts';
import { type Distance, Reference } from './distance.ts';
import { productError, tableError } from './local-error.ts';
import { outputsOf, Replay } from './replay.ts';
import { type RoundingMethod, Roundings } from './roundings.ts';
import type { TaskMetric } from './task-metric.ts';
import { type Unit, unitsOf } from './units.ts';

/** What is lost when one weight alone is stored in one width, all others being as they were. */
export interface WidthLoss extends Distance {
  readonly width: string;
  readonly bytes: number;
  /** Relative squared error of what the weight itself gives: of its product's output, or of the rows that are looked up. */
  readonly local: number;
  /** Loss of the task's metric; null where no task was given. */
  readonly metric: number | null;
}

export interface UnitSensitivity {
  readonly weight: string;
  readonly role: Role | null;
  readonly layer: number | null;
  readonly shape: readonly number[];
  /** First weight of the product that it is stacked in. */
  readonly stack: string;
  readonly product: boolean;
  readonly widths: readonly WidthLoss[];
}

/** What is lost when a product takes activations in 8 bits, one scale for each row, beside what int8 weights lose. */
export interface ActivationLoss extends Distance {
  /** First weight of the product. */
  readonly stack: string;
  /** What the output loses by the product's weights in int8 alone. */
  readonly weights: number;
}

export interface Sensitivity {
  readonly texts: number;
  readonly tokens: number;
  /** The task's metric of the unchanged model. */
  readonly metric: { readonly name: string; readonly value: number } | null;
  readonly units: readonly UnitSensitivity[];
  readonly activations: readonly ActivationLoss[];
}

/** Where finished parts are kept; a `WorkFolder` is one. */
export interface KeptResults {
  readJson<T>(key: string): Promise<T | null>;
  writeJson(key: string, value: unknown): Promise<void>;
}

export interface SensitivityOptions extends Partial<SequenceOptions> {
  /** Default: `USUAL_WIDTHS`. */
  readonly widths?: readonly string[];
  /** Labels or pairs of the user's; its texts are then run instead of the calibration texts. */
  readonly task?: TaskMetric;
  /** How codes are chosen. Default `rtn`: to the nearest. */
  readonly method?: RoundingMethod;
  /** What the method needs of text, beside its own options. */
  readonly context?: StepContext;
  readonly kept?: KeptResults;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly weight: string; readonly fraction: number }) => void;
}

/** Format of what is kept; part of every key. */
const VERSION = 1;

/**
 * Stores each weight in each width, one at a time, and runs text through the model: how far the output moves, how
 * much what the weight itself gives, and what the task loses. Activations stay as they are. The same texts, seed and machine give the same figures. Defaults: 64 texts of at most 128 tokens,
 * chosen by seed 1.
 * @throws `CALIBRATION_EMPTY`, `NO_TOKENIZER`, `WIDTH_UNKNOWN`; the signal's reason after an abort, finished weights
 * being kept
 */
export async function measureSensitivity(
  model: Model,
  texts: readonly string[],
  options: SensitivityOptions = {},
): Promise<Sensitivity> {
  const { task, signal, kept, onProgress, seed = 1, maxTokens = 128 } = options;
  const own = task?.texts ?? texts;
  const sampled = { maxTexts: task ? own.length : (options.maxTexts ?? 64), maxTokens, seed };
  const sequences = await sequencesOf(model, own, sampled);
  const program = await traceEncoder(model.config, model.weights.specs);
  const units = unitsOf(program, model.weights.specs, options.widths);
  const { method = 'rtn', context = {} } = options;
  const roundings = new Roundings(model, units, { method }, context);
  const key = [VERSION, await hashModel(model, signal), sequences, task?.name, method];
  let session: Promise<Session> | null = null;
  /** What was kept under a name, or what is measured now and then kept. */
  const keep = async <T>(name: unknown, measure: (session: Session) => T | Promise<T>): Promise<T> => {
    const hash = createHash('sha256')
      .update(JSON.stringify([key, name]))
      .digest('hex');
    const before = await kept?.readJson<{ readonly value: T }>(hash);
    if (before) return before.value;
    session ??= openSession(model, own, sequences, roundings, { ...options, ...sampled });
    const value = await measure(await session);
    await kept?.writeJson(hash, { value });
    return value;
  };
  try {
    const measured: UnitSensitivity[] = [];
    const stacks = stacksOf(units);
    const total = units.length + stacks.length;
    const begin = (weight: string, done: number) => {
      signal?.throwIfAborted();
      onProgress?.({ weight, fraction: done / total });
    };
    for (const [at, unit] of units.entries()) {
      begin(unit.weight, at);
      measured.push(await keep(unit, (open) => measureUnit(open, unit)));
    }
    const activations: ActivationLoss[] = [];
    for (const [at, stack] of stacks.entries()) {
      begin(stack[0], units.length + at);
      activations.push(await keep(stack, (open) => measureActivations(open, stack, sequences, signal)));
    }
    return {
      texts: sequences.length,
      tokens: sequences.reduce((sum, { ids }) => sum + ids.length, 0),
      metric: task
        ? { name: task.name, value: await keep('metric', ({ task: open }) => open!.baseline) }
        : null,
      units: measured,
      activations,
    };
  } finally {
    const open = await (session as Promise<Session> | null)?.catch(() => null);
    open?.replay.dispose();
  }
}

interface Session {
  readonly roundings: Roundings;
  readonly replay: Replay;
  readonly reference: Reference;
  /** What products read, by weight. */
  readonly inputs: ObservedInputs;
  /** How often each row of each table is looked up. */
  readonly uses: Readonly<Partial<Record<Role, ReadonlyMap<number, number>>>>;
  readonly task: { readonly baseline: number; of(rows: readonly Float32Array[]): number } | null;
}

async function openSession(
  model: Model,
  texts: readonly string[],
  sequences: readonly Sequence[],
  roundings: Roundings,
  options: SensitivityOptions & SequenceOptions,
): Promise<Session> {
  const { signal, task } = options;
  const products = roundings.units.filter(({ product }) => product).map(({ weight }) => weight);
  const { maxTexts, maxTokens, seed } = options;
  const sampled = { maxTexts, maxTokens, seed, signal };
  const { inputs } = await observeInputs(model, texts, { products, moments: false }, sampled);
  const replay = await Replay.open(model, sequences, { signal });
  const count = (rows: (sequence: Sequence) => Iterable<number>): Map<number, number> => {
    const uses = new Map<number, number>();
    for (const sequence of sequences)
      for (const row of rows(sequence)) uses.set(row, (uses.get(row) ?? 0) + 1);
    return uses;
  };
  const uses = {
    word: count(({ ids }) => ids),
    position: count(({ ids }) => ids.keys()),
    type: count(({ types }) => types),
  };
  const metric = await task?.open(replay.baseline);
  return {
    ...{ roundings, replay, reference: new Reference(replay.baseline), inputs, uses },
    task: metric ? { baseline: metric(replay.baseline), of: metric } : null,
  };
}

async function measureUnit(session: Session, unit: Unit): Promise<UnitSensitivity> {
  const { roundings, replay, reference, inputs, uses, task } = session;
  const { weight, role, layer, shape, stack, product } = unit;
  const columns = columnsOf(shape);
  const exact = decode(await replay.model.weights.read(weight));
  const widths: WidthLoss[] = [];
  for (const width of unit.widths) {
    const spec: WeightSpec = { ...width, shape };
    const rounded = decode(await roundings.read(weight, width));
    const rows = await replay.run(new Map([[weight, rounded]]));
    const read = inputs.get(weight);
    widths.push({
      width: formatWidth(width),
      bytes: byteSize(spec),
      local: read
        ? productError(read.samples, columns, exact, rounded)
        : tableError((role && uses[role]) ?? new Map(), columns, exact, rounded),
      ...reference.distance(rows),
      metric: task && task.baseline - task.of(rows),
    });
  }
  return { weight, role, layer, shape, stack, product, widths };
}

/** Weights of each product that are all still floats. */
function stacksOf(units: readonly Unit[]): string[][] {
  const stacks = new Map<string, string[]>();
  for (const { weight, stack, product } of units)
    if (product) stacks.set(stack, [...(stacks.get(stack) ?? []), weight]);
  return [...stacks.values()];
}

async function measureActivations(
  { replay, reference }: Session,
  stack: readonly string[],
  sequences: readonly Sequence[],
  signal: AbortSignal | undefined,
): Promise<ActivationLoss> {
  const { model } = replay;
  const int8 = async (weight: string) => {
    const { shape } = model.weights.specs.get(weight)!;
    return encode({ codec: 'int8', shape }, decode(await model.weights.read(weight)));
  };
  const stored = new Map<string, Weight>();
  for (const weight of stack) stored.set(weight, await int8(weight));
  const alone = await replay.run(new Map([...stored].map(([weight, codes]) => [weight, decode(codes)])));
  const specs = new Map([...model.weights.specs, ...stored]);
  const store: WeightStore = {
    specs,
    read: async (name) => stored.get(name) ?? model.weights.read(name),
  };
  const both = await outputsOf({ ...model, weights: store }, sequences, signal);
  return {
    stack: stack[0],
    weights: reference.distance(alone).output,
    // Against the same weights: what is left is the activations' own.
    ...new Reference(alone).distance(both),
  };
}
