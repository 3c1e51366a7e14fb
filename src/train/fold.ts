import { addGram, addProduct, ridgeSolve } from '../attention/initialise/ridge.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { names } from '../model/names.ts';
import type { Program } from '../program/program.ts';
import { groupByLength } from '../runtime/batches.ts';
import { openProgram } from '../runtime/open-program.ts';
import { decode } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { encoderInputs } from './data/batches.ts';
import type { TokenTexts } from './data/tokens.ts';

export interface FoldOptions {
  /** Layers that fall away: their work goes into the tables. */
  readonly below: number;
  /** Occurrences that what is guessed of a token from its row in the model's table counts for. Default 3. */
  readonly prior?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { done: number; total: number }) => void;
}

/** What each token and each place is worth at the entrance of a layer: row ≈ word[token] + position[place]. */
export interface FoldedTables {
  readonly word: Float32Array;
  readonly position: Float32Array;
  readonly counts: Float64Array;
}

/** Rounds in which words and places are fitted in turn. */
const ROUNDS = 4;
/** Occurrences of 0 that a place is shrunk by. */
const PLACE_PRIOR = 200;

/** Occurrences beyond which a token counts no more in the regression, and the ridge, as a share of the mean square. */
const MOST_COUNTED = 20;
const RIDGE = 1e-4;

/**
 * Tables that stand for the lowest layers of an encoder: for each token the mean of what those layers made of it on
 * some text, and for each place the mean of what is left. A token that the text has seldom leans
 * on a linear map of its row in the model's own table, fitted on the tokens that the text has.
 * @throws `FOLD_LAYERS` unless at least one layer stays; the signal's reason
 */
export async function foldLayers(
  model: Model,
  texts: TokenTexts,
  { below, prior = 3, signal, onProgress }: FoldOptions,
): Promise<FoldedTables> {
  const { vocabularySize: V, layers, tokenTypes } = model.config;
  if (below >= layers.length || texts.count === 0)
    throw new AttenuateError(
      'FOLD_LAYERS',
      `[fold] nothing to fold into: expected some text and fewer than ${layers.length} layers, got ${texts.count} texts and ${below} layers. Keep a layer.`,
      { below, layers: layers.length },
    );
  const C = layers[below].inputSize;
  const engine = await openProgram(
    model,
    rowsBefore(await traceEncoder(model.config, model.weights.specs), below),
  );
  const run = async (members: readonly number[], tokens: TokenTexts, length: number) => {
    const { ids, lengths, types } = encoderInputs(tokens, { texts: members, length });
    const inputs: Record<string, Int32Array> = { ids, lengths };
    if (tokenTypes > 0) inputs.types = types;
    const [rows] = await engine.run({ B: members.length, N: length, P: 1 }, inputs, signal);
    return { ids, rows };
  };
  const groups = groupByLength(Array.from({ length: texts.count }, (_, text) => texts.length(text)));
  const P = Math.max(...groups.map(({ length }) => length));
  const sums = new Float64Array(V * C);
  const places = new Float64Array(P * C);
  const met = new Uint32Array(P * V);
  let done = 0;
  try {
    for (const { members, length } of groups) {
      const { ids, rows } = await run(members, texts, length);
      ids.forEach((token, at) => {
        const place = at % length;
        met[place * V + token]++;
        for (let c = 0; c < C; c++) {
          const x = rows[at * C + c];
          sums[token * C + c] += x;
          places[place * C + c] += x;
        }
      });
      onProgress?.({ done: (done += members.length), total: texts.count });
    }
  } finally {
    engine.dispose();
  }
  const own = standardised(decode(await model.weights.read(names.word)), C);
  return fit({ V, C, P, own, sums, places, met, prior });
}

/** The Program up to the rows that a layer reads. */
function rowsBefore(program: Program, layer: number): Program {
  const stage = program.stages.findIndex(({ name }) => name === `layer ${layer}`);
  const { from } = program.stages[stage];
  const nodes = program.nodes.slice(0, from);
  const used = new Set(nodes.flatMap((node) => node.inputs));
  return {
    inputs: program.inputs.filter((value) => used.has(value)),
    outputs: [nodes[from - 1].outputs[0]],
    nodes,
    stages: program.stages.slice(0, stage),
  };
}

interface Sums {
  readonly V: number;
  readonly C: number;
  readonly P: number;
  /** What the teacher's own table says of each token, `[V, C]`. */
  readonly own: Float32Array;
  /** `[V, C]` */
  readonly sums: Float64Array;
  /** `[P, C]` */
  readonly places: Float64Array;
  /** How often a token stood at a place, `[P, V]`. */
  readonly met: Uint32Array;
  readonly prior: number;
}

/** Least squares of rows by token and place, both shrunk; each is solved while the other is held. */
function fit({ V, C, P, own, sums, places, met, prior }: Sums): FoldedTables {
  const pairs: [place: number, token: number, times: number][] = [];
  const counts = new Float64Array(V);
  const perPlace = new Float64Array(P);
  met.forEach((times, i) => {
    if (times === 0) return;
    const [place, token] = [Math.floor(i / V), i % V];
    pairs.push([place, token, times]);
    counts[token] += times;
    perPlace[place] += times;
  });
  const word = new Float64Array(V * C);
  const position = new Float64Array(P * C);
  const guessed = regress(own, sums, counts, C);
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < V * C; i++) word[i] = sums[i] + prior * guessed[i];
    for (const [place, token, times] of pairs) subtract(word, token, position, place, times);
    divide(word, (token) => counts[token] + prior);
    position.set(places);
    for (const [place, token, times] of pairs) subtract(position, place, word, token, times);
    divide(position, (place) => perPlace[place] + PLACE_PRIOR);
  }
  return { word: Float32Array.from(word), position: Float32Array.from(position), counts };

  function subtract(a: Float64Array, row: number, b: Float64Array, from: number, times: number): void {
    for (let c = 0; c < C; c++) a[row * C + c] -= times * b[from * C + c];
  }

  function divide(a: Float64Array, by: (row: number) => number): void {
    for (let row = 0; row < a.length / C; row++) {
      const factor = 1 / by(row);
      for (let c = 0; c < C; c++) a[row * C + c] *= factor;
    }
  }
}

/** Rows of mean 0 and variance 1, as the norm that follows the table makes them. */
function standardised(table: Float32Array, columns: number): Float32Array {
  const out = new Float32Array(table.length);
  for (let at = 0; at < table.length; at += columns) {
    const row = table.subarray(at, at + columns);
    const mean = row.reduce((sum, x) => sum + x, 0) / columns;
    const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / columns;
    const factor = 1 / Math.sqrt(variance + 1e-12);
    for (let c = 0; c < columns; c++) out[at + c] = (row[c] - mean) * factor;
  }
  return out;
}

/** For each token the value of a linear map from its own row to its mean row, fitted where there is a mean. */
function regress(own: Float32Array, sums: Float64Array, counts: Float64Array, C: number): Float64Array {
  const n = C + 1;
  const rowOf = (token: number) => {
    const row = new Float64Array(n);
    row.set(own.subarray(token * C, (token + 1) * C));
    row[C] = 1;
    return row;
  };
  const gram = new Float64Array(n * n);
  const right = new Float64Array(n * C);
  counts.forEach((count, token) => {
    if (count === 0) return;
    const weight = Math.sqrt(Math.min(count, MOST_COUNTED));
    const x = rowOf(token).map((value) => value * weight);
    const y = sums.slice(token * C, (token + 1) * C).map((value) => (value * weight) / count);
    addGram(gram, x, 1, n);
    addProduct(right, x, n, y, C, 1);
  });
  const map = ridgeSolve(gram, n, right, C, RIDGE); // [n, C]
  const out = new Float64Array(counts.length * C);
  for (let token = 0; token < counts.length; token++)
    rowOf(token).forEach((x, i) => {
      for (let c = 0; c < C; c++) out[token * C + c] += x * map[i * C + c];
    });
  return out;
}
