import { dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { referenceRows } from './attention.ts';
import { type HeadPlace, type HeadSources, placeHeads } from './head-sources.ts';

/** What a key or a query is before its norm is made 1: max(x, 0), or elu(x) + 1 = x + 1 above 0 and exp(x) below. */
export type FastWeightFeature = 'relu' | 'elu';

export interface FastWeightsOptions {
  readonly heads: number;
  readonly headSize: number;
  readonly feature: FastWeightFeature;
  /** How much of what a key recalls is replaced by its value: 1 all. */
  readonly beta: number;
  /** Whether token i reads what tokens up to i wrote; otherwise every token reads what all wrote. */
  readonly causal: boolean;
}

export interface FastWeightsAttributes extends FastWeightsOptions {
  readonly queries: HeadPlace;
  readonly keys: HeadPlace;
  readonly values: HeadPlace;
  readonly lengths: number | null;
}
export type FastWeightsNode = Node<'fastWeights', FastWeightsAttributes>;

/** Least norm that a feature vector is divided by: one of zeros stays zero. */
export const LEAST_NORM = 1e-15;

/**
 * An associative memory for each head that tokens write one after another by the delta rule,
 * S ← S + β φ(k) ⊗ (v − Sᵀφ(k)), and read as Sᵀφ(q) (Schlag, Irie and Schmidhuber 2021, section 4.2, with β constant and
 * φ of norm 1). Tokens from `lengths[b]` on write nothing. Gives `[B, N, H·D]`.
 * @throws `SHAPE_MISMATCH` for sources that do not belong together
 */
export function fastWeights(t: Tracer, sources: HeadSources, options: FastWeightsOptions): Value {
  const { heads, headSize } = options;
  const { inputs, B, N, ...places } = placeHeads('fastWeights', sources, heads, headSize);
  const keys = sources.keys.value.shape;
  if (options.causal && !equalDims(keys[2], N))
    throw shapeError('fastWeights', 'as many keys as queries', formatShape([N]), formatShape(keys));
  return t.emit('fastWeights', {
    inputs,
    parameters: [],
    outputs: [['o', 'float32', [B, N, dim(heads * headSize)]]],
    attributes: { ...options, ...places } satisfies FastWeightsAttributes,
    rowWise: false,
  })[0];
}

/** φ of a row, its norm 1. */
export function featureOf(x: Float64Array, kind: FastWeightFeature): Float64Array {
  const phi = x.map((v) => (kind === 'relu' ? Math.max(v, 0) : v > 0 ? v + 1 : Math.exp(v)));
  const norm = Math.max(Math.hypot(...phi), LEAST_NORM);
  return phi.map((v) => v / norm);
}

export const fastWeightsOp: OpDefinition<FastWeightsNode> = {
  kind: 'fastWeights',
  budget: { absolute: 2e-6, relative: 2e-5 },
  /** A key reads and writes the state, a query reads it. */
  multiplyAdds({ attributes: { heads, headSize, keys } }, { inputs, outputs: [[B, N]] }) {
    return B * heads * (2 * inputs[keys.input][2] + N) * headSize * headSize;
  },
  reference({ attributes }, context) {
    const { heads: H, headSize: D, feature, beta, causal, lengths: lengthsAt } = attributes;
    const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
      referenceRows(place, context),
    );
    const [B, N] = context.outputShapes[0];
    const out = new Float64Array(B * N * H * D);
    const row = ({ data, at }: typeof queries, h: number, b: number, n: number) =>
      data.subarray(at(h, b, n), at(h, b, n) + D);
    for (let b = 0; b < B; b++) {
      const length = lengthsAt === null ? keys.rows : Math.min(keys.rows, context.inputs[lengthsAt].data[b]);
      for (let h = 0; h < H; h++) {
        const state = new Float64Array(D * D);
        const recall = (phi: Float64Array) => {
          const y = new Float64Array(D);
          for (let i = 0; i < D; i++) for (let d = 0; d < D; d++) y[d] += phi[i] * state[i * D + d];
          return y;
        };
        const write = (n: number) => {
          const phi = featureOf(row(keys, h, b, n), feature);
          const error = recall(phi).map((y, d) => beta * (row(values, h, b, n)[d] - y));
          for (let i = 0; i < D; i++) for (let d = 0; d < D; d++) state[i * D + d] += phi[i] * error[d];
        };
        const read = (n: number) =>
          out.set(recall(featureOf(row(queries, h, b, n), feature)), ((b * N + n) * H + h) * D);
        if (!causal) for (let n = 0; n < length; n++) write(n);
        for (let n = 0; n < N; n++) {
          if (causal && n < length) write(n);
          read(n);
        }
      }
    }
    return [out];
  },
};
