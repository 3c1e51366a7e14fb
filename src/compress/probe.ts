import { runReference } from '../backend/reference/interpreter.ts';
import { encodeValues, type Probe, type ProbeLimits } from '../format/probe.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { cost } from '../program/cost.ts';
import type { Program } from '../program/program.ts';
import { decode, isFloat, type Weight } from '../tensor/codec.ts';
import type { DType } from '../tensor/dtype.ts';
import { Random } from '../tensor/random.ts';

/** Lengths of the sequences: a tile's rows, what is left over, and more than one. */
const LENGTHS = [2, 4, 5, 7];
/** Multiply-adds that the reference may take: some seconds. */
const MOST_WORK = 4e9;
/** Values that are kept of an output row: all of most sentence embeddings, the largest of what is wider. */
const MOST_VALUES = 384;
const KEPT_OF_MORE = 256;

/** What an engine in float32 may be off by, of values that it computes in another order. */
const LEAST_LIMIT = 1e-6;
/** Of biases and norms: more than float32 moves anything, so that some code is rounded otherwise. */
const MOVED = 1e-5;
/** What another sign of one activation may make of a short sequence. */
const ONE_SIGN = 0.01;

/**
 * Runs the float64 reference on a few made-up token sequences: what every device has to give for exactly this model.
 *
 * A quantised activation that falls between two codes may be rounded to either, and all that follows is then another
 * draw of the same rounding error; of the thousands of codes of a short sequence one often does. How far that carries a
 * sample is found by running the model with biases and norms moved a little, and with half as many levels. A device
 * may be off by that; float models, by what float32 is.
 * Holds the model's weights in memory. @throws the signal's reason, and what the reference throws
 */
export async function probeModel(model: Model, { signal }: { signal?: AbortSignal } = {}): Promise<Probe> {
  const program = await traceEncoder(model.config, model.weights.specs);
  const weights = new Map<string, Weight>();
  for (const name of new Set(program.nodes.flatMap((node) => node.parameters.map((p) => p.name)))) {
    signal?.throwIfAborted();
    weights.set(name, await model.weights.read(name));
  }
  const has = (kind: DType) => program.nodes.some((node) => node.outputs.some(({ dtype }) => dtype === kind));
  const sequences = sequencesFor(model, program);
  const run = (levels: 128 | 256, moved?: number): Float64Array[] => {
    signal?.throwIfAborted();
    return outputsOf(program, weights, sequences, levels, moved ? movedBy(weights, moved) : undefined);
  };
  const exact = run(256);
  const apart = errors(exact, run(256, MOVED));
  // Attention in integers takes floats and gives floats: its codes are inside.
  const rounds = has('quantized') || program.nodes.some(({ kind }) => kind === 'integerAttention');
  const coarse = rounds ? run(128) : null;
  // Of two roundings to 256 levels, from that to 256 and 128: 1 + 1 squared steps, where there are 1 + 4.
  if (coarse) apart.push(...errors(exact, coarse).map((error) => 0.4 * error));
  else if (has('bits')) apart.push(ONE_SIGN);
  const limits = limitsFrom(Math.max(...apart));
  return {
    samples: sequences.map((ids, i) => sampleOf(ids, coarse ? [exact[i], coarse[i]] : [exact[i]])),
    limits: coarse ? [limits, limitsFrom(4 * Math.max(...apart))] : [limits],
  };
}

/** Twice what rounding may make of a sample for the middle one, and a little more for the worst. */
const limitsFrom = (apart: number): ProbeLimits => ({ median: within(2 * apart), worst: within(5 * apart) });
const within = (limit: number): number => Math.min(1, Math.max(LEAST_LIMIT, limit));

function sequencesFor({ config }: Model, program: Program): number[][] {
  const random = new Random(20_261_126);
  const sequences: number[][] = [];
  for (const length of LENGTHS) {
    const N = Math.min(length, config.maxLength);
    const work = 3 * cost(program, { B: sequences.length + 1, N, P: 1 }).total.multiplyAdds;
    if (sequences.length > 0 && work > MOST_WORK) break;
    sequences.push(Array.from({ length: N }, () => random.integer(config.vocabularySize)));
  }
  return sequences;
}

/** The reference's output row of each sequence. */
function outputsOf(
  program: Program,
  weights: ReadonlyMap<string, Weight>,
  sequences: readonly (readonly number[])[],
  levels: 128 | 256,
  moved?: ReadonlyMap<string, Float64Array>,
): Float64Array[] {
  const B = sequences.length;
  const N = Math.max(...sequences.map(({ length }) => length));
  const known: Record<string, number[]> = {
    ids: sequences.flatMap((ids) => [...ids, ...new Array<number>(N - ids.length).fill(0)]),
    types: new Array(B * N).fill(0),
    lengths: sequences.map(({ length }) => length),
    rows: new Array(B).fill(0),
  };
  const inputs = Object.fromEntries(program.inputs.map(({ name }) => [name, known[name]]));
  const [y] = runReference(program, weights, inputs, { B, N, P: 1 }, levels, moved);
  const width = y.length / B;
  return sequences.map((_, b) => y.subarray(b * width, (b + 1) * width));
}

/** Biases and norms, each value times 1 + `by` · a normal number. */
function movedBy(weights: ReadonlyMap<string, Weight>, by: number): Map<string, Float64Array> {
  const random = new Random(7);
  const moved = new Map<string, Float64Array>();
  for (const [name, weight] of weights)
    if (weight.shape.length === 1 && isFloat(weight.codec))
      moved.set(
        name,
        Float64Array.from(decode(weight), (x) => x * (1 + by * random.gaussian())),
      );
  return moved;
}

const errors = (wanted: readonly Float64Array[], got: readonly Float64Array[]): number[] =>
  wanted.map((row, b) => {
    let [error, norm] = [0, 0];
    row.forEach((r, i) => {
      error += (got[b][i] - r) ** 2;
      norm += r * r;
    });
    return norm > 0 ? error / norm : error > 0 ? 1 : 0;
  });

function sampleOf(ids: readonly number[], rows: readonly Float64Array[]): Probe['samples'][number] {
  const [first] = rows;
  const places =
    first.length > MOST_VALUES
      ? Array.from(first.keys())
          .sort((a, b) => Math.abs(first[b]) - Math.abs(first[a]))
          .slice(0, KEPT_OF_MORE)
          .sort((a, b) => a - b)
      : undefined;
  return {
    ids,
    ...(places && { places }),
    outputs: rows.map((row) => encodeValues(places ? places.map((i) => row[i]) : row)),
  };
}
