import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Plan } from '../../backend/wasm/plan.ts';
import type { LinearNode } from '../../program/ops/linear.ts';
import type { Program, Value } from '../../program/program.ts';

/** Plans that one part of the model keeps: lengths that a text passes through, or numbers of rows. */
const PLANS_KEPT = 24;

/** One part of a cut Program, run on the engine that holds the whole. */
export class Segment {
  readonly program: Program;
  /** Multiply-adds of the products with weights, for one row. */
  readonly rowWork: number;
  private readonly engine: WasmEngine;
  private readonly plans = new Map<number, Plan>();
  private current: Plan | null = null;

  constructor(engine: WasmEngine, program: Program) {
    this.engine = engine;
    this.program = program;
    this.rowWork = program.nodes.reduce((sum, node) => sum + workOf(node as LinearNode), 0);
  }

  /** Makes the arena ready for N rows of one text; then `view` gives the places of its values. */
  prepare(N: number): void {
    let plan = this.plans.get(N) ?? null;
    if (plan) this.plans.delete(N);
    else {
      plan = this.engine.planOf(this.program, { B: 1, N });
      if (this.plans.size >= PLANS_KEPT) this.plans.delete(this.plans.keys().next().value!);
    }
    this.plans.set(N, plan);
    this.engine.prepare(plan);
    this.current = plan;
  }

  view(value: Value): Float32Array {
    return this.engine.view(this.current!, value) as Float32Array;
  }

  /** Writes an input that the whole Program has too, by its name. */
  give(inputs: Readonly<Record<string, ArrayLike<number>>>): void {
    for (const value of this.program.inputs)
      if (Object.hasOwn(inputs, value.name)) this.engine.view(this.current!, value).set(inputs[value.name]);
  }

  compute(): Promise<void> {
    return this.engine.compute(this.current!);
  }
}

function workOf({ kind, attributes, parameters }: LinearNode): number {
  if (kind !== 'linear') return 0;
  return parameters.slice(0, attributes.parts).reduce((n, { shape: [C, K] }) => n + C * K, 0);
}
