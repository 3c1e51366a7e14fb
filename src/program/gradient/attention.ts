import type { Dim } from '../../tensor/dim.ts';
import type { OpDefinition, ReferenceContext } from '../op.ts';
import {
  type AttentionAttributes,
  type AttentionNode,
  attentionOp,
  eachReferenceRow,
  type ReferenceRow,
  referenceRows,
} from '../ops/attention.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { type GradientRule, notDifferentiable } from './rule.ts';

/** Inputs: those of the attention, then its output, its row statistics, the output's gradient, the statistics' gradient. */
export interface AttentionGradientAttributes extends AttentionAttributes {
  /** How many inputs the attention has. */
  readonly sources: number;
  /** Which of them the outputs are the gradients of. */
  readonly of: readonly number[];
  /** Which of its parameters the gradients are of. */
  readonly ofParameters: readonly number[];
}
export type AttentionGradientNode = Node<'attentionGradient', AttentionGradientAttributes>;

/** Any op with attention's sources, attributes and outputs. */
type AttentionLike = Node<string, AttentionAttributes>;

/** What the backward pass of an attention reads. */
export interface AttentionFlow {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly dy: Value;
  readonly dStatistics: Value | null;
  readonly trains: (parameter: Parameter) => boolean;
}

/** The node that gives the gradients of everything that an attention reads by head; outputs as `of` says. */
export function attentionGradientNode(
  { attributes, parameters }: AttentionLike,
  { inputs, outputs, dy, dStatistics, trains }: AttentionFlow,
) {
  const places = [attributes.queries, attributes.keys, attributes.values];
  const of = [...new Set(places.flatMap((p) => ('input' in p ? [p.input] : [])))];
  const read = [...new Set(places.flatMap((p) => ('parameter' in p ? [p.parameter] : [])))];
  const ofParameters = read.filter((p) => trains(parameters[p]));
  return {
    inputs: [...inputs, ...outputs, dy, ...(dStatistics ? [dStatistics] : [])],
    parameters,
    outputs: of.map((i): [string, 'float32', readonly Dim[]] => [`d${i}`, 'float32', inputs[i].shape]),
    attributes: { ...attributes, sources: inputs.length, of, ofParameters },
    rowWise: false,
    gradients: ofParameters.map((p) => parameters[p]),
  };
}

/**
 * Backward pass of attention over the pairs that its mask keeps, without a tensor of all pairs (Dao 2023, section
 * 3.1): probabilities are found again from the row statistics; with dS = P · (dO Vᵀ − Σ dO·O + dL), dQ = dS K,
 * dK = dSᵀ Q, dV = Pᵀ dO. The gradient of the statistics is taken as that of their log-sum-exp, in its first column.
 */
export function attentionGradient(t: Tracer, node: AttentionNode, flow: AttentionFlow): Value[] {
  return t.emit('attentionGradient', attentionGradientNode(node, flow));
}

/** The rule of an op like attention: it keeps row statistics, and hands its sources' gradients on. */
export const attentionLikeRule = <N extends AttentionLike>(
  kind: N['kind'],
  gradient: (t: Tracer, node: N, flow: AttentionFlow) => Value[],
): GradientRule<N> => ({
  kind,
  emit(t, node, inputs, trains) {
    const [o] = node.outputs;
    const { heads } = node.attributes;
    const attributes = { ...node.attributes, statistics: true };
    const outputs = t.emit(kind, {
      inputs,
      parameters: node.parameters,
      outputs: [
        ['o', 'float32', o.shape],
        ['statistics', 'float32', [heads, ...o.shape.slice(0, 2), 2]],
      ],
      attributes,
      rowWise: false,
    });
    expectApart(node);
    return {
      outputs,
      backward([dy, dStatistics], sink) {
        if (!dy && !dStatistics) return;
        if (!dy) notDifferentiable(kind, 'whose statistics are used without its output');
        const traced = { ...node, attributes };
        gradient(t, traced, { inputs, outputs, dy: dy!, dStatistics: dStatistics ?? null, trains }).forEach(
          (d, i) => {
            const source = sourcesOf(node.attributes)[i];
            if (sink.wants(source)) sink.add(source, d);
          },
        );
      },
    };
  },
});

export const sourcesOf = ({ queries, keys, values }: AttentionAttributes): number[] => [
  ...new Set([queries, keys, values].flatMap((p) => ('input' in p ? [p.input] : []))),
];

/** Gradients of heads that stand for two things would be written by two units of work. */
export function expectApart({ kind, attributes }: AttentionLike): void {
  const { queries, keys, values, heads, keyHeads } = attributes;
  const ranges = [
    [queries, heads],
    [keys, keyHeads],
    [values, keyHeads],
  ] as const;
  ranges.forEach(([a, n], i) => {
    for (const [b, m] of ranges.slice(i + 1)) {
      const same =
        'input' in a && 'input' in b
          ? a.input === b.input
          : 'parameter' in a && 'parameter' in b && a.parameter === b.parameter;
      if (same && a.from < b.from + m && b.from < a.from + n)
        notDifferentiable(kind, 'whose queries, keys and values overlap');
    }
  });
}

export const attentionRule = attentionLikeRule<AttentionNode>('attention', attentionGradient);

export const attentionGradientOp: OpDefinition<AttentionGradientNode> = {
  kind: 'attentionGradient',
  budget: { absolute: 4e-6, relative: 1e-5 },
  /** Five products over the kept pairs where the forward pass has two. */
  multiplyAdds: (node, context) => 2.5 * attentionOp.multiplyAdds(node as unknown as AttentionNode, context),
  reference: (node, context) => attentionGradientReference(node, context),
};

/** A pair's changed score, and its derivative by the score; `give` is told the gradient of the changed score. */
export interface ScoreChange {
  modify(score: number, h: number, q: number, k: number): number;
  slope(score: number, h: number, q: number, k: number): number;
  give?(gradient: number, score: number, h: number, q: number, k: number): void;
  /** Weights of a row of changed scores, and the factors s of dScore = s ∘ (g − Σ s·g / Σ s); softmax by default. */
  weigh?(scores: readonly number[]): {
    readonly weights: ArrayLike<number>;
    readonly factors: ArrayLike<number>;
  };
}

function softmax(scores: readonly number[]) {
  const largest = scores.reduce((a, s) => Math.max(a, s), -Infinity);
  const powers = scores.map((s) => Math.exp(s - largest));
  const sum = powers.reduce((a, p) => a + p, 0);
  const weights = powers.map((p) => p / sum);
  return { weights, factors: weights };
}

/** The gradients by their definition in float64. */
export function attentionGradientReference(
  node: Node<string, AttentionGradientAttributes>,
  context: ReferenceContext,
  change: ScoreChange = { modify: (s) => s, slope: () => 1 },
  keeps?: (row: ReferenceRow, k: number) => boolean,
): Float64Array[] {
  const { attributes } = node;
  const { headSize: D, keySize, scale, sources, of, ofParameters } = attributes;
  const { inputs, parameters } = context;
  const places = [attributes.queries, attributes.keys, attributes.values];
  const [queries, keys, values] = places.map((place) => referenceRows(place, context));
  const outs = of.map((i) => new Float64Array(inputs[i].data.length));
  const parameterOuts = ofParameters.map((i) => new Float64Array(parameters[i].data.length));
  const nowhere = new Float64Array(0);
  const [dQ, dK, dV] = places.map((p) =>
    'input' in p ? outs[of.indexOf(p.input)] : (parameterOuts[ofParameters.indexOf(p.parameter)] ?? nowhere),
  );
  const dO = inputs[sources + 2].data;
  const dL = inputs[sources + 3]?.data;
  const [B, N] = inputs[sources].shape;
  eachReferenceRow(attributes, { ...context, outputShapes: [inputs[sources].shape] }, (row) => {
    const { h, g, b, q, to } = row;
    const all = row.keys.subarray(0, row.count);
    const seen = keeps ? all.filter((k) => keeps(row, k)) : all;
    const x = queries.at(h, b, q);
    const raw = Array.from(seen, (k) => {
      const y = keys.at(g, b, k);
      let score = 0;
      for (let d = 0; d < keySize; d++) score += queries.data[x + d] * keys.data[y + d];
      return scale * score;
    });
    const scores = raw.map((s, i) => change.modify(s, h, q, seen[i]));
    const { weights, factors } = (change.weigh ?? softmax)(scores);
    const dP = Array.from(seen, (k) => {
      const v = values.at(g, b, k);
      let d = 0;
      for (let i = 0; i < D; i++) d += dO[to + i] * values.data[v + i];
      return d;
    });
    let [total, mean] = [0, 0];
    dP.forEach((d, i) => {
      total += factors[i];
      mean += factors[i] * d;
    });
    mean /= total;
    const statistic = dL ? dL[((h * B + b) * N + q) * 2] : 0;
    seen.forEach((k, i) => {
      const p = weights[i];
      const v = values.at(g, b, k);
      const y = keys.at(g, b, k);
      for (let d = 0; d < D; d++) dV[v + d] += p * dO[to + d];
      const dChanged = factors[i] * (dP[i] - mean + statistic);
      change.give?.(dChanged, raw[i], h, q, k);
      const dS = scale * dChanged * change.slope(raw[i], h, q, k);
      for (let d = 0; d < keySize; d++) {
        dQ[x + d] += dS * keys.data[y + d];
        dK[y + d] += dS * queries.data[x + d];
      }
    });
  });
  return [...outs, ...parameterOuts];
}
