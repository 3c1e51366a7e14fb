import { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Plan } from '../../backend/wasm/plan.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import type { Program, Value } from '../../program/program.ts';
import { type Batch, groupByLength } from '../../runtime/batches.ts';
import { configure } from '../../runtime/configure.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import { decode, encode, type Weight, type WeightSpec } from '../../tensor/codec.ts';
import { evaluateDim } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Sequence } from '../sequences.ts';
import { crossing, tailOf } from './tail.ts';

export interface ReplayOptions {
  /** What stages read of those before them is kept up to this size. Default 256 MiB. */
  readonly cacheBytes?: number;
  /** Weights stay as they are stored, and products of integers with them; they cannot be changed then. */
  readonly stored?: boolean;
  readonly signal?: AbortSignal;
}

type Data = Float32Array | Int32Array;

/** Texts of one length, with the Program's inputs and what kept stages read of those before them. */
interface Run extends Batch {
  readonly bindings: { readonly B: number; readonly N: number; readonly P: number };
  readonly data: Map<Value, Data>;
  readonly plans: Map<Program, Plan>;
}

/**
 * A model in memory as floats, some of whose weights can be others for one run: what becomes of the output when they
 * are stored in fewer bits. A run starts at the first stage that reads a changed weight, from what the unchanged model
 * gave it.
 */
export class Replay {
  readonly model: Model;
  readonly program: Program;
  /** Output rows of the unchanged model, in the order of the texts. */
  baseline: readonly Float32Array[] = [];
  private readonly engine: WasmEngine;
  private readonly specs: ReadonlyMap<string, WeightSpec>;
  private readonly signal: AbortSignal | undefined;
  private readonly runs: readonly Run[];
  /** Programs from each stage that a run may start at: the first, and those whose inputs are kept. */
  private readonly tails: ReadonlyMap<number, Program>;

  private constructor(
    model: Model,
    program: Program,
    engine: WasmEngine,
    specs: ReadonlyMap<string, WeightSpec>,
    sequences: readonly Sequence[],
    { cacheBytes = 256 * 2 ** 20, signal }: ReplayOptions,
  ) {
    this.model = model;
    this.program = program;
    this.engine = engine;
    this.specs = specs;
    this.signal = signal;
    this.runs = groupByLength(sequences.map(({ ids }) => ids.length)).map((batch) =>
      runOf(program, batch, sequences),
    );
    this.tails = new Map(
      startsOf(program, this.runs, cacheBytes).map((stage) => [
        stage,
        tailOf(program, stage, program.outputs),
      ]),
    );
  }

  /** Loads a model as floats, whatever its weights are stored as, and runs the texts through it once. */
  static async open(
    model: Model,
    sequences: readonly Sequence[],
    options: ReplayOptions = {},
  ): Promise<Replay> {
    const specs = new Map(
      [...model.weights.specs].map(([name, spec]): [string, WeightSpec] => [
        name,
        options.stored || spec.codec === 'int32' ? spec : { codec: 'float32', shape: spec.shape },
      ]),
    );
    const program = await traceEncoder(model.config, specs);
    const { features, tiles } = await configure(model.config, { threads: 1 }, nodePlatform);
    const engine = await WasmEngine.create(program, specs, { features, tiles, threads: 1 });
    try {
      const replay = new Replay(model, program, engine, specs, sequences, options);
      for (const name of specs.keys()) {
        options.signal?.throwIfAborted();
        await replay.restore(name);
      }
      await replay.record();
      return replay;
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** Output rows with other values in some weights; those have their own again afterwards. */
  async run(changed: ReadonlyMap<string, Float32Array>): Promise<readonly Float32Array[]> {
    const names = [...changed.keys()];
    const stage = Math.min(this.program.stages.length - 1, ...names.map((name) => this.stageOf(name)));
    for (const [name, values] of changed) {
      const { shape } = this.specs.get(name)!;
      this.put(name, encode('float32', shape, values));
    }
    try {
      const tail = this.tailAt(stage);
      const rows: Float32Array[] = [];
      for (const run of this.runs) {
        const [output] = await this.execute(run, tail, this.program.outputs);
        handOut(run, output as Float32Array, rows);
      }
      return rows;
    } finally {
      for (const name of names) await this.restore(name);
    }
  }

  /** The stage in which a weight is first read. @throws `WEIGHT_MISSING` */
  stageOf(name: string): number {
    const at = this.program.nodes.findIndex((node) => node.parameters.some((p) => p.name === name));
    if (at < 0)
      throw new AttenuateError(
        'WEIGHT_MISSING',
        `[replay] weight that the model does not read: expected one that it does, got ${name}. Check the name.`,
        { name },
      );
    return this.program.stages.findIndex(({ from, to }) => at >= from && at < to);
  }

  dispose(): void {
    this.engine.dispose();
  }

  /** Puts a weight where the kernels read it. */
  private put(name: string, { bytes }: Weight): void {
    this.engine.loader(this.specs).accept(name, 0, bytes);
  }

  private async restore(name: string): Promise<void> {
    const weight = await this.model.weights.read(name);
    const spec = this.specs.get(name)!;
    this.put(name, spec.codec === weight.codec ? weight : encode(spec, decode(weight)));
  }

  private tailAt(stage: number): Program {
    return this.tails.get(Math.max(...[...this.tails.keys()].filter((s) => s <= stage)))!;
  }

  /** Runs the model as it is, and keeps its output and what the tails start from. */
  private async record(): Promise<void> {
    const kept = [...new Set([...this.tails.keys()].flatMap((stage) => crossing(this.program, stage)))];
    const whole: Program = { ...this.program, outputs: [...this.program.outputs, ...kept] };
    const rows: Float32Array[] = [];
    for (const run of this.runs) {
      const [output, ...values] = await this.execute(run, whole, whole.outputs);
      kept.forEach((value, i) => void run.data.set(value, values[i]));
      handOut(run, output as Float32Array, rows);
      run.plans.delete(whole);
    }
    this.baseline = rows;
  }

  /** Copies of the outputs of one run of a Program. */
  private async execute(run: Run, program: Program, outputs: readonly Value[]): Promise<Data[]> {
    this.signal?.throwIfAborted();
    const plan = run.plans.get(program) ?? this.engine.planOf(program, run.bindings);
    run.plans.set(program, plan);
    this.engine.prepare(plan);
    for (const value of program.inputs) (this.engine.view(plan, value) as Data).set(run.data.get(value)!);
    await this.engine.compute(plan, this.signal);
    return outputs.map((value) => this.engine.view(plan, value).slice() as Data);
  }
}

/** Output rows of a model as it is, with the arithmetic that its weights are stored for. */
export async function outputsOf(
  model: Model,
  sequences: readonly Sequence[],
  signal?: AbortSignal,
): Promise<readonly Float32Array[]> {
  const replay = await Replay.open(model, sequences, { stored: true, cacheBytes: 0, signal });
  try {
    return replay.baseline;
  } finally {
    replay.dispose();
  }
}

/** Stages whose inputs are kept, the first included, which reads nothing of another; the last ones first, while there is room. */
function startsOf(program: Program, runs: readonly Run[], cacheBytes: number): number[] {
  const starts = [0];
  let room = cacheBytes;
  for (let stage = program.stages.length - 1; stage > 0; stage--) {
    const values = crossing(program, stage);
    const bytes = runs.reduce(
      (sum, { bindings }) =>
        sum +
        values.reduce((n, { shape }) => n + 4 * shape.reduce((m, d) => m * evaluateDim(d, bindings), 1), 0),
      0,
    );
    if (bytes > room || values.some(({ dtype }) => dtype !== 'float32')) continue;
    room -= bytes;
    starts.push(stage);
  }
  return starts;
}

function runOf(program: Program, batch: Batch, sequences: readonly Sequence[]): Run {
  const [B, N] = [batch.members.length, batch.length];
  const given: Record<string, (place: number) => readonly number[]> = {
    ids: (place) => sequences[place].ids,
    types: (place) => sequences[place].types,
    lengths: () => [N],
    // A masked-token head is asked for the word in the middle.
    rows: () => [N >> 1],
  };
  const data = program.inputs.map((value): [Value, Int32Array] => [
    value,
    Int32Array.from(batch.members.flatMap(given[value.name])),
  ]);
  return { ...batch, bindings: { B, N, P: 1 }, data: new Map(data), plans: new Map() };
}

/** Puts each text's part of a batch's output in its place. */
function handOut({ members }: Batch, output: Float32Array, rows: Float32Array[]): void {
  const width = output.length / members.length;
  members.forEach((place, b) => {
    rows[place] = output.slice(b * width, (b + 1) * width);
  });
}
