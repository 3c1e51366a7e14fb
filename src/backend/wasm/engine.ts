import type { Program, Value } from '../../program/program.ts';
import { elements, type WeightSpec } from '../../tensor/codec.ts';
import type { Bindings } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { type Features, ONES_AT, type Tiles } from './kernels/kernel.ts';
import { stagingFor, WeightLoader } from './loader.ts';
import { keysOf, type Lowerings, loadLowerings } from './lower.ts';
import type { KernelKey } from './lowering.ts';
import { buildModule, CONSTANTS_AT, CONSTANTS_BYTES, type KernelModule, STEP_WORDS } from './module.ts';
import { CHUNK_ROWS, makePlan, type Plan } from './plan.ts';
import { CONTROL_BYTES, executeShared, instantiate, quit, type SpawnPool } from './pool.ts';
import { placeWeights, type WeightMap } from './weights.ts';

export interface EngineOptions {
  readonly features: Features;
  readonly tiles: Tiles;
  readonly threads: number;
  /** Needed for more than one thread. */
  readonly spawn?: SpawnPool;
  /** Most bytes of WebAssembly memory. */
  readonly maxMemory?: number;
  /** What an engine does otherwise than one for inference. */
  readonly parts?: EngineParts;
}

/** Where weights stand and how ops run, where that is not as in inference. */
export interface EngineParts {
  /** Gives the lowerings of all Programs that the engine will run. */
  lowerings(program: Program): Promise<Lowerings>;
  /** Every kernel that it will run. */
  readonly keys: readonly KernelKey[];
  place(program: Program, features: Features, base: number): WeightMap;
  readonly chunkRows: number;
}

const PAGE = 65536;
const MAX_PAGES = 65536;
/** Vector loads in a row's tail may read past it, never past this. */
const SLACK = 64;
const PLANS_KEPT = 64;
const YIELD_AFTER_MS = 50;

/** One Program with its weights in one WebAssembly memory: [control | packed weights | arena | scratch of each thread]. */
export class WasmEngine {
  readonly program: Program;
  readonly options: EngineOptions;
  private readonly lowerings: Lowerings;
  private readonly map: WeightMap;
  private readonly kernels: KernelModule;
  private readonly module: WebAssembly.Module;
  private readonly plans = new Map<string, Plan>();
  private memory: WebAssembly.Memory | null;
  private execute: ReturnType<typeof instantiate>;
  private pool: { terminate(): void } | null = null;
  private installed: Plan | null = null;

  private constructor(
    program: Program,
    lowerings: Lowerings,
    specs: ReadonlyMap<string, WeightSpec>,
    options: EngineOptions,
  ) {
    this.program = program;
    this.lowerings = lowerings;
    this.options = options;
    const shared = options.threads > 1;
    this.map = (options.parts?.place ?? placeWeights)(program, options.features, ONES_AT + 16);
    const staging = stagingFor([...specs.values()]);
    const initial = Math.ceil((this.map.end + staging + SLACK) / PAGE);
    const limit = Math.min(MAX_PAGES, Math.floor((options.maxMemory ?? MAX_PAGES * PAGE) / PAGE));
    if (initial > limit) throw outOfMemory(initial * PAGE, limit * PAGE, 'the weights alone');
    this.kernels = buildModule(
      options.parts?.keys ?? new Set(keysOf(lowerings, program.nodes)),
      lowerings.values(),
      options.features,
      options.tiles,
      {
        shared,
        minPages: 1,
        maxPages: MAX_PAGES,
      },
    );
    this.memory = new WebAssembly.Memory({ initial, maximum: MAX_PAGES, shared });
    this.module = new WebAssembly.Module(this.kernels.bytes);
    this.execute = instantiate(this.module, this.memory);
    new Float32Array(this.memory.buffer, CONSTANTS_AT, CONSTANTS_BYTES / 4).set(this.kernels.constants);
    new Int16Array(this.memory.buffer, ONES_AT, 8).fill(1);
  }

  /** @throws `OUT_OF_MEMORY` when the weights alone pass `maxMemory` */
  static async create(
    program: Program,
    specs: ReadonlyMap<string, WeightSpec>,
    options: EngineOptions,
  ): Promise<WasmEngine> {
    const lowerings = await (options.parts?.lowerings(program) ?? loadLowerings([program]));
    const engine = new WasmEngine(program, lowerings, specs, options);
    if (options.threads > 1) {
      const members = Array.from({ length: options.threads - 1 }, (_, i) => ({
        memory: engine.memory!,
        module: engine.module,
        index: i + 1,
      }));
      engine.pool = await options.spawn!(members);
    }
    return engine;
  }

  /** The kernels' module, as bytes. */
  get code(): Uint8Array {
    return this.kernels.bytes;
  }

  get weightBytes(): number {
    return this.map.end;
  }

  /** Takes the weights, piece by piece, before the first run. */
  loader(specs: ReadonlyMap<string, WeightSpec>): WeightLoader {
    return new WeightLoader(specs, {
      map: this.map,
      memory: () => this.buffer(),
      staging: this.map.end,
      stagingBytes: this.buffer().byteLength - this.map.end - SLACK,
      pack: (kernel, fields, rows) => {
        const words = new Int32Array(this.buffer());
        const step = CONTROL_BYTES / 4;
        const descriptor = CONTROL_BYTES + STEP_WORDS * 4;
        const { index, fields: names } = this.kernels.kernels.get(kernel)!;
        words.set([index, descriptor, rows, rows, 0, 0], step);
        words.set(
          Object.keys(names).map((name) => fields[name as keyof typeof fields]),
          descriptor / 4,
        );
        this.execute(CONTROL_BYTES, 1, 0);
      },
    });
  }

  /** The plan of one shape, computed once; allocates nothing. */
  plan(bindings: Bindings): Plan {
    const key = `${bindings.B},${bindings.N},${bindings.P ?? 0}`;
    let plan = this.plans.get(key);
    if (!plan) {
      plan = this.planOf(this.program, bindings);
      if (this.plans.size >= PLANS_KEPT) this.plans.delete(this.plans.keys().next().value!);
    } else this.plans.delete(key);
    this.plans.set(key, plan);
    return plan;
  }

  /** The plan of a cut of the Program: nodes of its own, so that weights and kernels are there. Not remembered. */
  planOf(program: Program, bindings: Bindings): Plan {
    const { features, threads, parts } = this.options;
    const { lowerings, map } = this;
    const { kernels } = this.kernels;
    return makePlan(
      {
        program,
        lowerings,
        features,
        threads,
        kernels,
        weights: map,
        arena: map.end,
        chunkRows: parts?.chunkRows ?? CHUNK_ROWS,
      },
      bindings,
    );
  }

  /**
   * Makes the memory ready for a plan: its inputs may be written after this, and `compute` be called.
   * @throws `OUT_OF_MEMORY` before anything is allocated
   */
  prepare(plan: Plan): void {
    this.reserve(plan);
    this.install(plan);
  }

  /**
   * Runs the Program. `inputs` by name, of the types as traced and the shapes that `bindings` give.
   * @throws `OUT_OF_MEMORY` before anything is allocated; the signal's reason at the next stage after an abort
   */
  async run(
    bindings: Bindings,
    inputs: Readonly<Record<string, Int32Array | Float32Array | Int8Array>>,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted();
    const plan = this.plan(bindings);
    this.prepare(plan);
    for (const value of this.program.inputs) {
      const data = inputs[value.name];
      const view = this.view(plan, value);
      if (data?.length !== view.length) {
        const { shape } = plan.layout.placements.get(value.id)!;
        throw new AttenuateError(
          'INPUT_SHAPE',
          `[run] wrong input ${value.name}: expected ${view.length} values for [${shape}], got ${data?.length ?? 'none'}. Pass one value per element.`,
          { input: value.name, shape },
        );
      }
      view.set(data);
    }
    await this.compute(plan, signal);
    return this.program.outputs.map((value) => Float32Array.from(this.view(plan, value)));
  }

  /** A value where it stands in the arena; valid until the memory grows, which only `prepare` does. */
  view(
    plan: Plan,
    { id, dtype }: Value,
  ): Float32Array<ArrayBuffer> | Int32Array | Int16Array | Int8Array | Uint8Array {
    const { offset, shape } = plan.layout.placements.get(id)!;
    const { dot } = this.options.features;
    const View =
      dtype === 'float32'
        ? Float32Array
        : dtype === 'int32'
          ? Int32Array
          : dtype === 'int8' || (dtype === 'quantized' && dot === 's8')
            ? Int8Array
            : dtype === 'quantized' && dot === 'i16'
              ? Int16Array
              : Uint8Array;
    return new View(this.buffer() as ArrayBuffer, plan.base + offset, elements(shape));
  }

  memoryBytes(): number {
    return this.memory?.buffer.byteLength ?? 0;
  }

  /** The memory itself, for tests that look at what a run wrote. */
  buffer(): ArrayBufferLike {
    if (!this.memory)
      throw new AttenuateError(
        'DISPOSED',
        '[run] model is disposed: expected a live model, got one whose memory was returned. Load it again.',
      );
    return this.memory.buffer;
  }

  dispose(): void {
    if (!this.memory) return;
    if (this.pool) {
      quit(this.memory);
      this.pool.terminate();
    }
    this.memory = null;
    this.pool = null;
    this.installed = null;
    this.execute = () => {};
    this.plans.clear();
  }

  private reserve(plan: Plan): void {
    const needed = plan.end + SLACK;
    const limit = Math.min(MAX_PAGES * PAGE, this.options.maxMemory ?? Number.POSITIVE_INFINITY);
    if (needed > limit)
      throw outOfMemory(needed, limit, `${plan.bindings.B} texts of ${plan.bindings.N} tokens`);
    const missing = Math.ceil((needed - this.buffer().byteLength) / PAGE);
    if (missing > 0) this.memory!.grow(missing);
  }

  private install(plan: Plan): void {
    const words = new Int32Array(this.buffer());
    if (this.installed !== plan) words.set(plan.image, this.map.end / 4);
    else if (this.options.threads > 1)
      for (let i = 0; i < plan.steps.length; i++)
        words.fill(0, this.map.end / 4 + i * STEP_WORDS + 4, this.map.end / 4 + i * STEP_WORDS + 6);
    this.installed = plan;
  }

  /** Stage by stage: between stages an abort is seen, and a long run lets the event loop breathe. */
  async compute(plan: Plan, signal?: AbortSignal): Promise<void> {
    let last = performance.now();
    for (let from = 0; from < plan.steps.length; ) {
      let to = from + 1;
      while (to < plan.steps.length && plan.steps[to].stage === plan.steps[from].stage) to++;
      const at = this.map.end + from * STEP_WORDS * 4;
      if (this.pool)
        executeShared(this.memory!, this.execute, at, to - from, plan.scratch, plan.scratchBytes);
      else this.execute(at, to - from, plan.scratch);
      from = to;
      if (from < plan.steps.length && (signal || performance.now() - last > YIELD_AFTER_MS)) {
        await new Promise<void>((resume) => setTimeout(resume));
        last = performance.now();
        signal?.throwIfAborted();
        this.buffer();
      }
    }
  }
}

function outOfMemory(needed: number, limit: number, what: string): AttenuateError {
  const mb = (n: number) => `${(n / 1e6).toFixed(1)} MB`;
  return new AttenuateError(
    'OUT_OF_MEMORY',
    `[plan] ${what} need more memory than allowed: expected at most ${mb(limit)}, got ${mb(needed)}. Use fewer or shorter texts, a smaller model, or raise maxMemory.`,
    { needed, limit },
  );
}
