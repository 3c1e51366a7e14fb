import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import type { Program, Value } from '../../program/program.ts';
import { openProgram } from '../../runtime/open-program.ts';
import { encoderInputs, type TextBatch } from '../data/batches.ts';
import type { TokenTexts } from '../data/tokens.ts';
import { lookInside, type TracedEncoder } from './objective.ts';

/** A teacher that runs beside its student, on the same tokens, and shows what losses compare with. */
export class RunningTeacher {
  private readonly engine: WasmEngine;
  private readonly model: Model;
  private readonly texts: TokenTexts;

  private constructor(engine: WasmEngine, model: Model, texts: TokenTexts) {
    this.engine = engine;
    this.model = model;
    this.texts = texts;
  }

  /** @param wanted the values to show, each once */
  static async open(
    model: Model,
    texts: TokenTexts,
    wanted: (inside: TracedEncoder) => readonly Value[],
  ): Promise<RunningTeacher> {
    const program = await traceEncoder(model.config, model.weights.specs);
    return new RunningTeacher(
      await openProgram(model, showing(program, wanted(lookInside(program)))),
      model,
      texts,
    );
  }

  /** The values of a batch, in the order in which they were wanted. */
  async run(batch: TextBatch): Promise<Float32Array[]> {
    const { ids, lengths, types } = encoderInputs(this.texts, batch);
    const inputs: Record<string, Int32Array> = { ids, lengths };
    if (this.model.config.tokenTypes > 0) inputs.types = types;
    return this.engine.run({ B: batch.texts.length, N: batch.length, P: 1 }, inputs);
  }

  dispose(): void {
    this.engine.dispose();
  }
}

/** The Program with other outputs, and without what comes after the last of them. */
function showing(program: Program, outputs: readonly Value[]): Program {
  const last = program.nodes.findLastIndex((node) => node.outputs.some((value) => outputs.includes(value)));
  const nodes = program.nodes.slice(0, last + 1);
  const read = new Set(nodes.flatMap((node) => node.inputs));
  return {
    inputs: program.inputs.filter((value) => read.has(value)),
    outputs,
    nodes,
    stages: program.stages
      .filter(({ from }) => from <= last)
      .map((stage) => ({ ...stage, to: Math.min(stage.to, last + 1) })),
  };
}
