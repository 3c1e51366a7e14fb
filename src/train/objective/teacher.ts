import type { WasmEngine } from '../../backend/wasm/engine.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import type { Program, Value } from '../../program/program.ts';
import { cutAt, openProgram } from '../../runtime/open-program.ts';
import { encoderInputs, type TextBatch } from '../data/batches.ts';
import type { TokenTexts } from '../data/tokens.ts';
import { lookInside, type TracedEncoder } from './objective.ts';

/** A teacher that runs beside its student, on the same tokens, and shows what losses compare with. */
export class RunningTeacher {
  readonly model: Model;
  private readonly texts: TokenTexts;
  private readonly program: Program;
  private readonly wanted: Value[] = [];
  private engine: WasmEngine | undefined;
  private last: { readonly batch: TextBatch; readonly rows: Promise<Float32Array[]> } | undefined;

  private constructor(model: Model, texts: TokenTexts, program: Program) {
    this.model = model;
    this.texts = texts;
    this.program = program;
  }

  static async open(model: Model, texts: TokenTexts): Promise<RunningTeacher> {
    return new RunningTeacher(model, texts, await traceEncoder(model.config, model.weights.specs));
  }

  /**
   * Asks for values, before the first run; what several losses want is computed once for all.
   * @returns the values of a batch in the order in which they were wanted
   */
  want(
    wanted: (inside: TracedEncoder) => readonly Value[],
  ): (batch: TextBatch) => Promise<readonly Float32Array[]> {
    const places = wanted(lookInside(this.program)).map((value) => {
      if (!this.wanted.includes(value)) this.wanted.push(value);
      return this.wanted.indexOf(value);
    });
    return async (batch) => {
      if (this.last?.batch !== batch) this.last = { batch, rows: this.run(batch) };
      const rows = await this.last.rows;
      return places.map((i) => rows[i]);
    };
  }

  private async run(batch: TextBatch): Promise<Float32Array[]> {
    this.engine ??= await openProgram(this.model, cutAt(this.program, this.wanted));
    const { ids, lengths, types } = encoderInputs(this.texts, batch);
    const inputs: Record<string, Int32Array> = { ids, lengths };
    if (this.model.config.tokenTypes > 0) inputs.types = types;
    return this.engine.run({ B: batch.texts.length, N: batch.length, P: 1 }, inputs);
  }

  dispose(): void {
    this.engine?.dispose();
    this.engine = undefined;
  }
}
