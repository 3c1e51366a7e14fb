import { WasmEngine } from '../backend/wasm/engine.ts';
import type { Model } from '../model/config.ts';
import type { Program, Value } from '../program/program.ts';
import { configure } from './configure.ts';
import { thisThread } from './this-thread.ts';

/** An engine that runs a Program, or a cut of one, with a model's weights: those that it reads, no more. */
export async function openProgram(model: Model, program: Program): Promise<WasmEngine> {
  const { features, tiles } = await configure(model.config, { threads: 1 }, thisThread);
  const used = new Set(program.nodes.flatMap((node) => node.parameters.map(({ name }) => name)));
  const specs = new Map([...model.weights.specs].filter(([name]) => used.has(name)));
  const engine = await WasmEngine.create(program, specs, { features, tiles, threads: 1 });
  const loader = engine.loader(specs);
  for (const name of specs.keys()) loader.accept(name, 0, (await model.weights.read(name)).bytes);
  loader.finish();
  return engine;
}

/** The Program up to the last of some values, which it gives, each once. */
export function cutAt(program: Program, wanted: readonly Value[]): Program {
  const values = [...new Set(wanted)];
  const last = program.nodes.findLastIndex((node) => node.outputs.some((value) => values.includes(value)));
  const nodes = program.nodes.slice(0, last + 1);
  const read = new Set(nodes.flatMap((node) => node.inputs));
  return {
    inputs: program.inputs.filter((value) => read.has(value)),
    outputs: values,
    nodes,
    stages: program.stages
      .filter(({ from }) => from <= last)
      .map((stage) => ({ ...stage, to: Math.min(stage.to, last + 1) })),
  };
}
