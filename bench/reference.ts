import { runReference } from '../src/backend/reference/interpreter.ts';
import type { Model } from '../src/model/config.ts';
import { traceEncoder } from '../src/model/encoder.ts';
import type { Configuration } from '../src/runtime/configure.ts';
import type { Weight } from '../src/tensor/codec.ts';
import { cosine } from './outputs.ts';

/** Levels of an activation in 8 bits on this engine. */
export type Levels = 128 | 256;

export const levelsOf = ({ dot }: Pick<Configuration['features'], 'dot'>): Levels =>
  dot === 'u7' ? 128 : 256;

/**
 * What a whole encoder must reach against its own float64 reference, of the same codes: an activation that float32 rounds
 * to another code than float64 moves all that follow.
 */
export const REFERENCE_COSINE = 0.998;

interface Running {
  run(ids: readonly (readonly number[])[]): Promise<Float32Array[]>;
}

/** Cosine of a model's output on one text with that of the float64 reference. */
export async function cosineWithReference(
  model: Model,
  running: Running,
  ids: readonly number[],
  levels: Levels,
): Promise<number> {
  const weights = new Map<string, Weight>();
  for (const name of model.weights.specs.keys()) weights.set(name, await model.weights.read(name));
  const program = await traceEncoder(model.config, model.weights.specs);
  const inputs = { ids: [...ids], types: ids.map(() => 0), lengths: [ids.length], rows: [0] };
  const [want] = runReference(program, weights, inputs, { B: 1, N: ids.length, P: 1 }, levels);
  const [got] = await running.run([ids]);
  return cosine(got, want);
}
