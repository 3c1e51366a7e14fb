import { dim, equalShapes, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, type ReferenceTensor, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { type GradientRule, plainRule } from './rule.ts';

/** A loss of each row of a and b, and how much the row counts: 1, or 0 where it is not there. */
export interface RowLossAttributes {
  /** Which input holds the lengths of the sequences, or null. */
  readonly lengths: number | null;
  /** What logits are divided by. */
  readonly temperature: number;
  /** Cross-entropy: the share of a label that is spread over all. */
  readonly smoothing: number;
  /** Soft cross-entropy: whether the entropy of the targets is taken off. */
  readonly divergence: boolean;
}
export type RowLossNode = Node<RowLossKind, RowLossAttributes>;
export type RowLossGradientNode = Node<`${RowLossKind}Gradient`, RowLossAttributes>;
export type RowLossKind = 'squaredError' | 'cosineDistance' | 'crossEntropy' | 'softCrossEntropy';

const DEFAULTS: RowLossAttributes = { lengths: null, temperature: 1, smoothing: 0, divergence: false };

/** Losses and weights of rows, `[…, 2]`: weight · loss, weight. */
export function rowLoss(
  t: Tracer,
  kind: RowLossKind,
  a: Value,
  b: Value,
  lengths: Value | null,
  options: Partial<RowLossAttributes> = {},
): Value {
  const lead = a.shape.slice(0, -1);
  const wanted = kind === 'crossEntropy' ? lead : a.shape;
  if (!equalShapes(b.shape, wanted))
    throw shapeError(kind, 'targets of another shape', formatShape(wanted), formatShape(b.shape));
  if (lengths && (a.shape.length !== 3 || lengths.shape.length !== 1))
    throw shapeError(kind, 'lengths of other rows', '[B, N, C] and [B]', formatShape(a.shape));
  return t.emit(kind, {
    inputs: lengths ? [a, b, lengths] : [a, b],
    parameters: [],
    outputs: [['rows', 'float32', [...lead, dim(2)]]],
    attributes: { ...DEFAULTS, ...options, lengths: lengths ? 2 : null } satisfies RowLossAttributes,
    rowWise: false,
  })[0];
}

/** Gradient of the rows' losses by a: `dRows[r, 0] · weight · ∂loss/∂a`. */
function rowLossGradient(t: Tracer, node: RowLossNode, inputs: readonly Value[], dRows: Value): Value {
  return t.emit(`${node.kind}Gradient`, {
    inputs: [...inputs, dRows],
    parameters: [],
    outputs: [['da', 'float32', inputs[0].shape]],
    attributes: node.attributes,
    rowWise: false,
  })[0];
}

interface RowLoss {
  /** Loss of one row. b is the row of targets, or one label. */
  loss(a: Float64Array, b: Float64Array, at: RowLossAttributes): number;
  gradient(a: Float64Array, b: Float64Array, at: RowLossAttributes): Float64Array;
  /** Whether b may have a gradient: that of the roles exchanged. */
  readonly symmetric: boolean;
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, i) => sum + x * b[i], 0);

function logSoftmax(x: Float64Array, temperature: number): Float64Array {
  const scaled = x.map((v) => v / temperature);
  const largest = scaled.reduce((m, v) => Math.max(m, v), -Infinity);
  const log = Math.log(scaled.reduce((sum, v) => sum + Math.exp(v - largest), 0)) + largest;
  return scaled.map((v) => v - log);
}

/** Norms below this count as this. */
export const LEAST_NORM = 1e-12;
const norm = (a: Float64Array): number => Math.max(Math.sqrt(dot(a, a)), LEAST_NORM);

const ROW_LOSSES: Readonly<Record<RowLossKind, RowLoss>> = {
  squaredError: {
    symmetric: true,
    loss: (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length,
    gradient: (a, b) => a.map((x, i) => (2 * (x - b[i])) / a.length),
  },
  cosineDistance: {
    symmetric: true,
    loss: (a, b) => 1 - dot(a, b) / (norm(a) * norm(b)),
    gradient(a, b) {
      const [na, nb] = [norm(a), norm(b)];
      const cosine = dot(a, b) / (na * nb);
      return a.map((x, i) => (cosine * x) / (na * na) - b[i] / (na * nb));
    },
  },
  crossEntropy: {
    symmetric: false,
    loss(a, [label], { smoothing, temperature }) {
      const log = logSoftmax(a, temperature);
      const mean = log.reduce((sum, v) => sum + v, 0) / a.length;
      return -(1 - smoothing) * log[label] - smoothing * mean;
    },
    gradient(a, [label], { smoothing, temperature: T }) {
      return logSoftmax(a, T).map(
        (v, i) => (Math.exp(v) - (i === label ? 1 - smoothing : 0) - smoothing / a.length) / T,
      );
    },
  },
  softCrossEntropy: {
    symmetric: false,
    loss(a, b, { temperature: T, divergence }) {
      const [student, teacher] = [logSoftmax(a, T), logSoftmax(b, T)];
      let sum = 0;
      teacher.forEach((q, i) => {
        sum += Math.exp(q) * ((divergence ? q : 0) - student[i]);
      });
      return T * T * sum;
    },
    gradient(a, b, { temperature: T }) {
      const teacher = logSoftmax(b, T);
      return logSoftmax(a, T).map((v, i) => T * (Math.exp(v) - Math.exp(teacher[i])));
    },
  },
};

/** Every row with its weight. */
function eachRow(
  kind: RowLossKind,
  { lengths }: RowLossAttributes,
  inputs: readonly ReferenceTensor[],
  visit: (row: number, a: Float64Array, b: Float64Array, weight: number) => void,
): void {
  const [a, b] = inputs;
  const C = a.shape.at(-1)!;
  const N = a.shape.at(-2) ?? 1;
  const width = kind === 'crossEntropy' ? 1 : C;
  for (let r = 0; r < a.data.length / C; r++) {
    const there = lengths === null || r % N < inputs[lengths].data[Math.floor(r / N)];
    const target = b.data.subarray(r * width, (r + 1) * width);
    const counts = there && !(kind === 'crossEntropy' && target[0] < 0);
    visit(r, a.data.subarray(r * C, (r + 1) * C), target, counts ? 1 : 0);
  }
}

const KINDS = Object.keys(ROW_LOSSES) as RowLossKind[];
const BUDGET = { absolute: 4e-6, relative: 4e-6 };

export const rowLossOps: readonly OpDefinition<RowLossNode>[] = KINDS.map((kind) => ({
  kind,
  budget: BUDGET,
  multiplyAdds: (_node, { inputs: [a] }) => a.reduce((x, y) => x * y, 1) * 8,
  reference({ attributes }, { inputs, outputShapes }) {
    const out = new Float64Array(outputShapes[0].reduce((x, y) => x * y, 1));
    eachRow(kind, attributes, inputs, (r, a, b, weight) => {
      if (weight) out.set([ROW_LOSSES[kind].loss(a, b, attributes), 1], 2 * r);
    });
    return [out];
  },
}));

export const rowLossGradientOps: readonly OpDefinition<RowLossGradientNode>[] = KINDS.map((kind) => ({
  kind: `${kind}Gradient` as const,
  budget: BUDGET,
  multiplyAdds: (_node, { inputs: [a] }) => a.reduce((x, y) => x * y, 1) * 8,
  reference({ attributes }, { inputs }) {
    const out = new Float64Array(inputs[0].data.length);
    const d = inputs.at(-1)!;
    eachRow(kind, attributes, inputs, (r, a, b, weight) => {
      if (!weight) return;
      const g = ROW_LOSSES[kind].gradient(a, b, attributes);
      out.set(
        g.map((x) => x * d.data[2 * r]),
        r * a.length,
      );
    });
    return [out];
  },
}));

export const rowLossRules: readonly GradientRule<RowLossNode>[] = KINDS.map((kind) =>
  plainRule<RowLossNode>(kind, (t, node, { inputs, gradients: [dRows], sink }) => {
    if (!dRows) return;
    const [a, b, ...rest] = inputs;
    if (sink.wants(0)) sink.add(0, rowLossGradient(t, node, inputs, dRows));
    if (ROW_LOSSES[kind].symmetric && sink.wants(1))
      sink.add(1, rowLossGradient(t, node, [b, a, ...rest], dRows));
  }),
);
