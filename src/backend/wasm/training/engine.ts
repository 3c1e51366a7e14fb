import { LOSS_SCALE, type TrainingProgram } from '../../../program/gradient/training-program.ts';
import type { Parameter, Program, Value } from '../../../program/program.ts';
import { Tracer } from '../../../program/trace.ts';
import { elements } from '../../../tensor/codec.ts';
import { type Bindings, dim } from '../../../tensor/dim.ts';
import { AttenuateError } from '../../../tensor/error.ts';
import { type EngineOptions, WasmEngine } from '../engine.ts';
import { keysOf } from '../lower.ts';
import type { Plan } from '../plan.ts';
import { HYPER } from './kernels/update.ts';
import { trainingLowerings } from './lowerings.ts';
import type { AdamW, StepInputs, TrainingMachine } from './types.ts';
import { placeTrainingWeights, type TrainingWeights } from './weights.ts';

export interface TrainingEngineOptions extends Omit<EngineOptions, 'parts'> {
  /** Programs that `forward` will run with the same weights. */
  readonly forward?: readonly Program[];
  /** The group of the optimizer that each trained parameter is in, by index. Default 0 for all. */
  readonly groupOf?: (name: string) => number;
}

/** Above every norm: no clipping. */
const NO_CLIPPING = 1e38;
const EMPTY: Bindings = { B: 0, N: 0 };

/** A training Program on generated kernels: see `TrainingMachine`. */
export class TrainingEngine implements TrainingMachine {
  readonly training: TrainingProgram;
  private readonly engine: WasmEngine;
  private readonly weights: TrainingWeights;
  private readonly update_: Program;
  private readonly groups: number;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;
  private readonly plans = new Map<Program, Map<string, Plan>>();

  private constructor(
    training: TrainingProgram,
    engine: WasmEngine,
    weights: TrainingWeights,
    update: Program,
    groups: number,
    shapes: ReadonlyMap<string, readonly number[]>,
  ) {
    this.training = training;
    this.engine = engine;
    this.weights = weights;
    this.update_ = update;
    this.groups = groups;
    this.shapes = shapes;
  }

  /** @throws `OP_UNSUPPORTED` for an op without a kernel, or a product as inference runs it, activation and all; `OUT_OF_MEMORY` when the state alone passes `maxMemory` */
  static async create(
    training: TrainingProgram,
    { forward = [], groupOf = () => 0, ...options }: TrainingEngineOptions,
  ): Promise<TrainingEngine> {
    const { trainable } = training;
    const groups = Math.max(0, ...trainable.map(({ name }) => groupOf(name))) + 1;
    const update = updateProgram(trainable, groups, groupOf);
    const programs = [training.program, update, ...forward];
    const frozen = frozenOf(training, programs);
    const lowerings = await trainingLowerings(programs);
    const keys = [...new Set(programs.flatMap(({ nodes }) => keysOf(lowerings, nodes)))];
    let weights!: TrainingWeights;
    const engine = await WasmEngine.create(training.program, new Map(), {
      ...options,
      parts: {
        lowerings: async () => lowerings,
        keys,
        place: (_program, features, base) => {
          weights = placeTrainingWeights(trainable, frozen, features, base);
          return weights;
        },
        chunkRows: Number.MAX_SAFE_INTEGER,
      },
    });
    const shapes = new Map([...trainable, ...frozen].map(({ name, shape }) => [name, shape]));
    return new TrainingEngine(training, engine, weights, update, groups, shapes);
  }

  get stateBytes(): number {
    return 4 * this.weights.blockBytes;
  }

  get memoryBytes(): number {
    return this.engine.memoryBytes();
  }

  peakBytes(bindings: Bindings): number {
    return this.plan(this.training.program, bindings).layout.peakBytes;
  }

  weight(name: string): Float32Array<ArrayBuffer> {
    const at = this.weights.raw.get(name);
    if (at === undefined)
      throw new AttenuateError(
        'WEIGHT_MISSING',
        `[train] no such weight: expected one of ${this.weights.raw.size} that the Program reads, got ${name}. Check the name.`,
        { name },
      );
    return this.view(at, elements(this.shapes.get(name)!));
  }

  gradient(name: string): Float32Array<ArrayBuffer> {
    return this.state(name, 1);
  }

  moments(name: string): readonly [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>] {
    return [this.state(name, 2), this.state(name, 3)];
  }

  clearGradients(): void {
    const { block, blockBytes } = this.weights;
    this.view(block + blockBytes, blockBytes / 4).fill(0);
  }

  async step(bindings: Bindings, inputs: StepInputs, signal?: AbortSignal): Promise<Float32Array[]> {
    const all = LOSS_SCALE in inputs ? inputs : { ...inputs, [LOSS_SCALE]: Float32Array.of(1) };
    return this.run(this.training.program, bindings, all, signal);
  }

  async forward(
    program: Program,
    bindings: Bindings,
    inputs: StepInputs,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    return this.run(program, bindings, inputs, signal);
  }

  async gradientNorm(): Promise<number> {
    const { plan, norm } = this.prepareUpdate(null);
    await this.engine.compute({ ...plan, steps: plan.steps.slice(0, 2) });
    return norm()[0];
  }

  async update(options: AdamW): Promise<number> {
    const { plan, norm } = this.prepareUpdate(options);
    await this.engine.compute(plan);
    return norm()[0];
  }

  dispose(): void {
    this.engine.dispose();
  }

  private prepareUpdate(options: AdamW | null): { plan: Plan; norm: () => Float32Array } {
    const plan = this.plan(this.update_, EMPTY);
    this.engine.prepare(plan);
    const [hyper, groups] = this.update_.inputs.map((v) => this.engine.view(plan, v) as Float32Array);
    if (options) {
      const { beta1, beta2, epsilon, step, maxNorm = NO_CLIPPING } = options;
      const numbers: Record<(typeof HYPER)[number], number> = {
        beta1,
        beta2,
        epsilon,
        correction1: 1 / (1 - beta1 ** step),
        correction2: 1 / (1 - beta2 ** step),
        maxNorm,
      };
      hyper.set(HYPER.map((name) => numbers[name]));
      if (options.groups.length < this.groups)
        throw new AttenuateError(
          'UPDATE_GROUPS',
          `[update] too few groups: expected ${this.groups}, got ${options.groups.length}. Give one for each index that groupOf gives.`,
          { expected: this.groups, got: options.groups.length },
        );
      for (let i = 0; i < this.groups; i++)
        groups.set([options.groups[i].learningRate, options.groups[i].weightDecay], 2 * i);
    }
    return { plan, norm: () => this.engine.view(plan, this.update_.outputs[0]) as Float32Array };
  }

  private async run(
    program: Program,
    bindings: Bindings,
    inputs: StepInputs,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted();
    const plan = this.plan(program, bindings);
    this.engine.prepare(plan);
    for (const value of program.inputs) this.set(plan, value, inputs[value.name]);
    await this.engine.compute(plan, signal);
    return program.outputs.map((v) => Float32Array.from(this.engine.view(plan, v)));
  }

  private set(plan: Plan, value: Value, data: Int32Array | Float32Array | undefined): void {
    const view = this.engine.view(plan, value);
    if (data?.length !== view.length)
      throw new AttenuateError(
        'INPUT_SHAPE',
        `[train] wrong input ${value.name}: expected ${view.length} values, got ${data?.length ?? 'none'}. Pass one value per element.`,
        { input: value.name, expected: view.length },
      );
    view.set(data);
  }

  private plan(program: Program, bindings: Bindings): Plan {
    const known = this.plans.get(program) ?? new Map<string, Plan>();
    this.plans.set(program, known);
    const key = JSON.stringify(Object.entries(bindings).sort());
    let plan = known.get(key);
    if (!plan) {
      plan = this.engine.planOf(program, bindings);
      if (known.size >= 32) known.delete(known.keys().next().value!);
    } else known.delete(key);
    known.set(key, plan);
    return plan;
  }

  private state(name: string, block: number): Float32Array<ArrayBuffer> {
    const weight = this.weight(name);
    const at = this.weights.raw.get(name)!;
    if (at < this.weights.block)
      throw new AttenuateError(
        'WEIGHT_FROZEN',
        `[train] weight without a gradient: expected a trained one, got ${name}, which is frozen. Train it, or do not ask.`,
        { name },
      );
    return this.view(at + block * this.weights.blockBytes, weight.length);
  }

  private view(at: number, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.engine.buffer() as ArrayBuffer, at, length);
  }
}

/** Norm of the gradients, then every parameter's update. */
function updateProgram(
  trainable: readonly Parameter[],
  groups: number,
  groupOf: (name: string) => number,
): Program {
  const t = new Tracer(new Map());
  const hyper = t.input('hyper', 'float32', [HYPER.length]);
  const numbers = t.input('groups', 'float32', [groups, 2]);
  const [norm] = t.emit('gradientNorm', {
    inputs: [hyper],
    parameters: trainable,
    outputs: [['norm', 'float32', [dim(1)]]],
    attributes: {},
    rowWise: false,
  });
  for (const parameter of trainable)
    t.emit('adamW', {
      inputs: [hyper, numbers, norm],
      parameters: [parameter],
      outputs: [],
      attributes: { group: groupOf(parameter.name) },
      rowWise: false,
    });
  t.output(norm);
  return t.program();
}

/** What any of the Programs reads and nothing trains. */
function frozenOf({ trainable, frozen }: TrainingProgram, programs: readonly Program[]): Parameter[] {
  const trained = new Set(trainable.map(({ name }) => name));
  const all = programs.flatMap(({ nodes }) => nodes.flatMap(({ parameters }) => parameters));
  const rest = [...frozen, ...all].filter(({ name }) => !trained.has(name));
  return [...new Map(rest.map((p) => [p.name, p])).values()];
}
