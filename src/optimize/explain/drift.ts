import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import type { Program, Value } from '../../program/program.ts';
import { openProgram } from '../../runtime/open-program.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { crossing } from '../precision/tail.ts';
import { inputsOf, type Sequence } from '../sequences.ts';

/** How far what a stage hands on has moved from what the reference hands on there. */
export interface StageDrift {
  readonly stage: string;
  /** ‖x − x₀‖² / ‖x₀‖² over all texts. */
  readonly error: number;
}

/**
 * Where a model leaves another one that it was made from: the relative error of what each stage hands on, on the same
 * texts.
 * @throws `DRIFT_MODELS` for models of different stages or widths
 */
export async function stageDrift(
  model: Model,
  reference: Model,
  sequences: readonly Sequence[],
  signal?: AbortSignal,
): Promise<StageDrift[]> {
  const [own, other] = await Promise.all([model, reference].map(openStages));
  try {
    const apart = () =>
      new AttenuateError(
        'DRIFT_MODELS',
        `[explain] models that are not alike: expected ${own.stages.join(', ')} of equal widths, got ${other.stages.join(', ')}. Compare a model with what it was made from.`,
      );
    if (own.stages.join() !== other.stages.join()) throw apart();
    const error = new Float64Array(own.stages.length);
    const norm = new Float64Array(own.stages.length);
    for (const sequence of sequences) {
      const [mine, theirs] = [await own.run(sequence, signal), await other.run(sequence, signal)];
      for (const [s, rows] of mine.entries()) {
        if (rows.length !== theirs[s].length) throw apart();
        for (let i = 0; i < rows.length; i++) {
          error[s] += (rows[i] - theirs[s][i]) ** 2;
          norm[s] += theirs[s][i] ** 2;
        }
      }
    }
    return own.stages.map((stage, s) => ({ stage, error: norm[s] > 0 ? error[s] / norm[s] : 0 }));
  } finally {
    own.dispose();
    other.dispose();
  }
}

/** A model that gives what each of its stages hands on. */
async function openStages(model: Model) {
  const program = await traceEncoder(model.config, model.weights.specs);
  const handed = program.stages.map((_, s): readonly Value[] =>
    s + 1 < program.stages.length
      ? crossing(program, s + 1).filter(({ dtype }) => dtype === 'float32')
      : program.outputs,
  );
  const outputs = [...new Set(handed.flat())];
  const showing: Program = { ...program, outputs };
  const engine = await openProgram(model, showing);
  const picks = program.inputs.some(({ name }) => name === 'rows');
  return {
    stages: program.stages.map(({ name }) => name),
    /** Rows of each stage, one value after another. */
    async run(sequence: Sequence, signal?: AbortSignal): Promise<Float32Array[]> {
      const N = sequence.ids.length;
      const inputs = { ...inputsOf(model, sequence), ...(picks && { rows: Int32Array.of(N >> 1) }) };
      const rows = await engine.run({ B: 1, N, P: 1 }, inputs, signal);
      return handed.map((values) => joined(values.map((value) => rows[outputs.indexOf(value)])));
    },
    dispose: () => engine.dispose(),
  };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
