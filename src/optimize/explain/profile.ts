import { type Ceilings, ceilings } from '../../backend/wasm/ceiling.ts';
import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Plan } from '../../backend/wasm/plan.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { cost, type OpCost } from '../../program/cost.ts';
import type { LinearNode } from '../../program/ops/linear.ts';
import type { Node, Program, Value } from '../../program/program.ts';
import { openProgram } from '../../runtime/open-program.ts';
import { isFloat } from '../../tensor/codec.ts';
import { quantile } from '../metrics.ts';

/** One op of a run, timed on this device. */
export interface OpTime {
  readonly kind: string;
  /** What a product's weights are stored as, several where they differ; empty for other ops. */
  readonly codecs: readonly string[];
  readonly stage: string;
  /** First weight that it reads, without `.weight`; empty where it reads none. */
  readonly weight: string;
  readonly milliseconds: number;
  readonly multiplyAdds: number;
  readonly weightBytes: number;
  /** Share of the fastest that this device's instructions for it were seen to run; null where there is no such figure. */
  readonly ofCeiling: number | null;
}

export interface Profile {
  readonly length: number;
  readonly ops: readonly OpTime[];
  /** Billions of operations in a second, a multiply-add being two. */
  readonly ceilings: Ceilings;
}

/** Runs after which a kernel is compiled for good, and those that are timed. */
const WARM_ROUNDS = 20;
const ROUNDS = 25;

/**
 * Times every op of one text of so many tokens, in the order of a run and on what it reads in one, one thread: the
 * median of rounds.
 */
export async function profileModel(model: Model, length: number, signal?: AbortSignal): Promise<Profile> {
  const program = await traceEncoder(model.config, model.weights.specs);
  const bindings = { B: 1, N: length, P: 1 };
  const engine = await openProgram(model, program);
  try {
    const measured = await ceilings();
    const values = await runAll(engine, program, length, model.config.vocabularySize);
    const cuts = program.nodes.map((node) => {
      // What is read is an output too, so that nothing is put in its place.
      const cut: Program = {
        inputs: [...new Set(node.inputs)],
        outputs: [...new Set([...node.inputs, ...node.outputs])],
        nodes: [node],
        stages: [{ name: node.kind, from: 0, to: 1 }],
      };
      return { cut, plan: engine.planOf(cut, bindings) };
    });
    const times: number[][] = cuts.map(() => []);
    for (let round = 0; round < WARM_ROUNDS + ROUNDS; round++) {
      signal?.throwIfAborted();
      for (const [i, { cut, plan }] of cuts.entries()) {
        engine.prepare(plan);
        for (const value of cut.inputs) put(engine, plan, value, values.get(value)!);
        const start = performance.now();
        await engine.compute(plan);
        if (round >= WARM_ROUNDS) times[i].push(performance.now() - start);
      }
      // Optimised code is compiled on another thread, which has to get its turn.
      await new Promise<void>((resume) => setTimeout(resume));
    }
    const costs = cost(program, bindings).byOp;
    const ops = program.nodes.map((node, i) =>
      timed(node, costs[i], quantile(times[i], 0.5), measured, engine),
    );
    return { length, ops, ceilings: measured };
  } finally {
    engine.dispose();
  }
}

type Data = ReturnType<WasmEngine['view']>;

/** Every value of one run, of ids that look like no particular text. */
async function runAll(
  engine: WasmEngine,
  program: Program,
  length: number,
  vocabulary: number,
): Promise<Map<Value, Data>> {
  const all = [...program.inputs, ...program.nodes.flatMap(({ outputs }) => outputs)];
  const plan = engine.planOf({ ...program, outputs: all }, { B: 1, N: length, P: 1 });
  engine.prepare(plan);
  const given: Record<string, (i: number) => number> = {
    ids: (i) => (i * 7919 + 104729) % vocabulary,
    lengths: () => length,
  };
  for (const value of program.inputs) {
    const view = engine.view(plan, value);
    for (let i = 0; i < view.length; i++) view[i] = given[value.name]?.(i) ?? 0;
  }
  await engine.compute(plan);
  return new Map(all.map((value) => [value, engine.view(plan, value).slice()]));
}

const put = (engine: WasmEngine, plan: Plan, value: Value, data: Data): void =>
  (engine.view(plan, value) as Float32Array).set(data as Float32Array);

function timed(
  node: Node,
  { kind, stage, multiplyAdds, weightBytes }: OpCost,
  milliseconds: number,
  measured: Ceilings,
  engine: WasmEngine,
): OpTime {
  const { parts = 0 } = node.kind === 'linear' ? (node as LinearNode).attributes : {};
  const codecs = [...new Set(node.parameters.slice(0, parts).map(({ codec }) => codec))];
  const { fused, dot } = engine.options.features;
  const float = measured[fused ? 'f32Fused' : 'f32MulAdd'];
  const integer = measured[dot === 'i16' ? 'int16Dot' : 'int8Dot'];
  const ceiling = codecs.length === 0 ? null : codecs.every(isFloat) ? float : integer;
  const rate = (2 * multiplyAdds) / (milliseconds * 1e6);
  return {
    ...{ kind, codecs, stage, milliseconds, multiplyAdds, weightBytes },
    weight: node.parameters[0]?.name.replace(/\.weight$/, '') ?? '',
    ofCeiling: ceiling && milliseconds > 0 ? rate / ceiling : null,
  };
}
