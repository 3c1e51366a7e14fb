import { type Dim, dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, type ReferenceTensor, shapeError } from '../op.ts';
import type { Heads } from '../ops/attention.ts';
import { padHead } from '../ops/linear.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { meanRows } from './loss-sums.ts';
import { plainRule } from './rule.ts';

/** Rows by head whose products in pairs are compared. */
export interface PairSource {
  readonly queries: Heads;
  readonly keys: Heads;
  readonly heads: number;
  readonly headSize: number;
  /** What a product is multiplied by. Default 1/√(columns of a relation). */
  readonly scale?: number;
}

interface PairSide {
  readonly queries: { readonly input: number; readonly from: number };
  readonly keys: { readonly input: number; readonly from: number };
  /** Heads that one relation takes together, and columns of one head. */
  readonly group: number;
  readonly headSize: number;
  readonly scale: number;
}

export interface PairLossAttributes {
  /** `scores`: mean squared difference. `relations`: divergence of the rows' softmax. */
  readonly compare: 'scores' | 'relations';
  /** Heads, or relation heads: what both sides come to. */
  readonly relations: number;
  readonly student: PairSide;
  readonly teacher: PairSide;
  readonly lengths: number;
}
export type PairLossNode = Node<'pairLoss', PairLossAttributes>;
/** Inputs: those of the loss, then its statistics, then the gradient of its rows. */
export type PairLossGradientNode = Node<
  'pairLossGradient',
  PairLossAttributes & { readonly of: readonly number[] }
>;

/**
 * TinyBERT's loss on attention (Jiao et al. 2020, equation 7): mean squared difference of a student's and a teacher's
 * scores before the softmax, over the pairs that exist. Equal numbers of heads; the teacher's rows are data. Scores
 * are compared tile by tile: no tensor of all pairs is made.
 */
export const attentionScoreLoss = (
  t: Tracer,
  student: PairSource,
  teacher: PairSource,
  lengths: Value,
): Value => pairLoss(t, 'scores', student.heads, student, teacher, lengths);

/**
 * MiniLM's loss on relations (Wang et al. 2020, section 3.1; 2021, section 3.1): mean over rows of the divergence of
 * softmax(student) from softmax(teacher). Queries with keys are attention; values, queries or keys with themselves
 * are the relations of the paper. `relations` re-splits both: it divides each side's number of heads.
 */
export const relationLoss = (
  t: Tracer,
  relations: number,
  student: PairSource,
  teacher: PairSource,
  lengths: Value,
): Value => pairLoss(t, 'relations', relations, student, teacher, lengths);

function pairLoss(
  t: Tracer,
  compare: PairLossAttributes['compare'],
  relations: number,
  student: PairSource,
  teacher: PairSource,
  lengths: Value,
): Value {
  const inputs: Value[] = [];
  const indexOf = (value: Value) => {
    const known = inputs.indexOf(value);
    return known >= 0 ? known : inputs.push(value) - 1;
  };
  const side = (who: string, { queries, keys, heads, headSize, scale }: PairSource): PairSide => {
    if (heads % relations !== 0)
      throw shapeError('pairLoss', `heads of the ${who}`, `a multiple of ${relations}`, `${heads}`);
    for (const { value, from } of [queries, keys]) {
      const held = value.shape[0]?.terms.get('') ?? 0;
      if (value.shape.length !== 4 || held < from + heads || !equalDims(value.shape[3], padHead(headSize)))
        throw shapeError(
          'pairLoss',
          `rows of the ${who}`,
          `at least ${from + heads} heads of rows of ${padHead(headSize)} columns`,
          formatShape(value.shape),
        );
    }
    const group = heads / relations;
    return {
      queries: { input: indexOf(queries.value), from: queries.from },
      keys: { input: indexOf(keys.value), from: keys.from },
      group,
      headSize,
      scale: scale ?? 1 / Math.sqrt(group * headSize),
    };
  };
  const attributes = {
    compare,
    relations,
    student: side('student', student),
    teacher: side('teacher', teacher),
    lengths: 0,
  };
  attributes.lengths = indexOf(lengths);
  const [, B, N] = student.queries.value.shape;
  const lead: Dim[] = [dim(relations), B, N];
  const [rows] = t.emit('pairLoss', {
    inputs,
    parameters: [],
    outputs: [
      ['rows', 'float32', [...lead, dim(2)]],
      ['statistics', 'float32', [...lead, dim(4)]],
    ],
    attributes: attributes satisfies PairLossAttributes,
    rowWise: false,
  });
  return meanRows(t, rows);
}

/** All scores of one row, in float64. */
function rowOf(
  inputs: readonly ReferenceTensor[],
  { queries, keys, group, headSize, scale }: PairSide,
  r: number,
  b: number,
  q: number,
  count: number,
): Float64Array {
  const at = (place: PairSide['queries'], h: number, n: number) => {
    const [, B, N, pitch] = inputs[place.input].shape;
    return (((place.from + r * group + h) * B + b) * N + n) * pitch;
  };
  return Float64Array.from({ length: count }, (_, k) => {
    let sum = 0;
    for (let h = 0; h < group; h++) {
      const [x, y] = [at(queries, h, q), at(keys, h, k)];
      for (let d = 0; d < headSize; d++)
        sum += inputs[queries.input].data[x + d] * inputs[keys.input].data[y + d];
    }
    return scale * sum;
  });
}

function softmaxOf(x: Float64Array): { log: Float64Array; largest: number; sum: number } {
  const largest = x.reduce((a, v) => Math.max(a, v), -Infinity);
  const sum = x.reduce((a, v) => a + Math.exp(v - largest), 0);
  return { log: x.map((v) => v - largest - Math.log(sum)), largest, sum };
}

/** Every row that exists, with both sides' scores. */
function eachRow(
  { relations, student, teacher, lengths }: PairLossAttributes,
  inputs: readonly ReferenceTensor[],
  visit: (row: number, r: number, b: number, q: number, s: Float64Array, t: Float64Array) => void,
): void {
  const [, B, N] = inputs[student.queries.input].shape;
  for (let r = 0; r < relations; r++)
    for (let b = 0; b < B; b++) {
      const length = Math.min(N, inputs[lengths].data[b]);
      for (let q = 0; q < length; q++)
        visit(
          (r * B + b) * N + q,
          r,
          b,
          q,
          rowOf(inputs, student, r, b, q, length),
          rowOf(inputs, teacher, r, b, q, length),
        );
    }
}

const pairsOf = (
  { relations, student, teacher }: PairLossAttributes,
  inputs: readonly (readonly number[])[],
) => {
  const [, B, N] = inputs[student.queries.input];
  const columns = [student, teacher].reduce((n, { group, headSize }) => n + group * headSize, 0);
  return relations * B * N * N * columns;
};

export const pairLossOp: OpDefinition<PairLossNode> = {
  kind: 'pairLoss',
  budget: { absolute: 2e-6, relative: 1e-5 },
  /** The scores of relations are found twice. */
  multiplyAdds: ({ attributes }, { inputs }) =>
    pairsOf(attributes, inputs) * (attributes.compare === 'scores' ? 1 : 2),
  reference({ attributes }, { inputs, outputShapes }) {
    const [rows, statistics] = outputShapes.map((s) => new Float64Array(s.reduce((a, b) => a * b, 1)));
    eachRow(attributes, inputs, (row, _r, _b, _q, s, t) => {
      if (attributes.compare === 'scores') {
        rows.set([s.reduce((sum, v, i) => sum + (v - t[i]) ** 2, 0) / s.length, 1], 2 * row);
        return;
      }
      const [student, teacher] = [softmaxOf(s), softmaxOf(t)];
      const loss = teacher.log.reduce((sum, v, i) => sum + Math.exp(v) * (v - student.log[i]), 0);
      rows.set([loss, 1], 2 * row);
      statistics.set([student.largest, student.sum, teacher.largest, teacher.sum], 4 * row);
    });
    return [rows, statistics];
  },
};

export const pairLossGradientOp: OpDefinition<PairLossGradientNode> = {
  kind: 'pairLossGradient',
  budget: { absolute: 2e-6, relative: 1e-5 },
  multiplyAdds: ({ attributes }, { inputs }) => 2 * pairsOf(attributes, inputs),
  reference({ attributes }, { inputs }) {
    const { of, student, compare } = attributes;
    const dRows = inputs.at(-1)!.data;
    const outs = of.map((i) => new Float64Array(inputs[i].data.length));
    const { group, headSize, scale } = student;
    const at = (place: PairSide['queries'], h: number, b: number, n: number) => {
      const [, B, N, pitch] = inputs[place.input].shape;
      return (((place.from + h) * B + b) * N + n) * pitch;
    };
    const [dQ, dK] = [student.queries, student.keys].map(({ input }) => outs[of.indexOf(input)]);
    const [Q, K] = [student.queries, student.keys].map(({ input }) => inputs[input].data);
    eachRow(attributes, inputs, (row, r, b, q, s, t) => {
      const [logS, logT] = [softmaxOf(s).log, softmaxOf(t).log];
      for (let k = 0; k < s.length; k++) {
        const slope =
          compare === 'scores' ? (2 * (s[k] - t[k])) / s.length : Math.exp(logS[k]) - Math.exp(logT[k]);
        const d = dRows[2 * row] * scale * slope;
        for (let h = 0; h < group; h++) {
          const x = at(student.queries, r * group + h, b, q);
          const y = at(student.keys, r * group + h, b, k);
          for (let c = 0; c < headSize; c++) {
            dQ[x + c] += d * K[y + c];
            dK[y + c] += d * Q[x + c];
          }
        }
      }
    });
    return outs;
  },
};

export const pairLossRule = plainRule<PairLossNode>(
  'pairLoss',
  (t, { attributes }, { inputs, outputs: [, statistics], gradients: [dRows], sink }) => {
    if (!dRows) return;
    const { queries, keys } = attributes.student;
    const of = [...new Set([queries.input, keys.input])];
    const outputs = t.emit('pairLossGradient', {
      inputs: [...inputs, statistics, dRows],
      parameters: [],
      outputs: of.map((i) => [`d${i}`, 'float32', inputs[i].shape]),
      attributes: { ...attributes, of },
      rowWise: false,
    });
    of.forEach((input, i) => {
      if (sink.wants(input)) sink.add(input, outputs[i]);
    });
  },
);
