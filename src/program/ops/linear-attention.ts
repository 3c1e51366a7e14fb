import { dim, formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { referenceRows } from './attention.ts';
import { type FeatureMap, keyFeatures, outputFeatures, queryFeatures } from './feature-maps.ts';
import { type HeadPlace, type HeadSources, placeHeads } from './head-sources.ts';
import { padHead } from './linear.ts';

export interface LinearAttentionOptions {
  readonly heads: number;
  readonly headSize: number;
  readonly map: FeatureMap;
  /** W of performer and hedgehog, `[heads or 1, m, D′]` with m a multiple of 8; one head of it serves all. */
  readonly features?: Parameter;
}

export interface LinearAttentionAttributes {
  readonly heads: number;
  readonly headSize: number;
  readonly map: FeatureMap;
  /** m: rows of one head of W; D′ for a map that has none. */
  readonly features: number;
  readonly queries: HeadPlace;
  readonly keys: HeadPlace;
  readonly values: HeadPlace;
  readonly lengths: number | null;
}
export type LinearAttentionNode = Node<'linearAttention', LinearAttentionAttributes>;

/**
 * Attention by a feature map φ in place of the exponential of a product: φ(Q)(φ(K)ᵀV) / φ(Q)(φ(K)ᵀ1)
 * (Katharopoulos et al. 2020, section 3.2), in time and memory that grow as the length. Keys from `lengths[b]` on
 * are not there; a row whose denominator is 0 is 0. Gives `[B, N, H·D]`.
 * @throws `SHAPE_MISMATCH` for sources or features that do not belong together
 */
export function linearAttention(t: Tracer, sources: HeadSources, options: LinearAttentionOptions): Value {
  const { heads, headSize, map, features: W } = options;
  const { inputs, B, N, ...places } = placeHeads('linearAttention', sources, heads, headSize);
  const projected = map.kind === 'performer' || map.kind === 'hedgehog';
  if (projected !== !!W)
    throw shapeError(
      'linearAttention',
      `features of ${map.kind}`,
      projected ? 'a matrix' : 'none',
      W ? 'a matrix' : 'none',
    );
  if (W) {
    expectFloat('linearAttention', W);
    const [count, m, columns] = W.shape;
    if (
      W.shape.length !== 3 ||
      (count !== 1 && count !== heads) ||
      m < 8 ||
      m % 8 !== 0 ||
      columns !== padHead(headSize)
    )
      throw shapeError(
        'linearAttention',
        'features of another shape',
        `[1 or ${heads}, a multiple of 8, ${padHead(headSize)}]`,
        formatShape(W.shape),
      );
  }
  return t.emit('linearAttention', {
    inputs,
    parameters: W ? [W] : [],
    outputs: [['o', 'float32', [B, N, dim(heads * headSize)]]],
    attributes: {
      heads,
      headSize,
      map,
      features: W ? W.shape[1] : padHead(headSize),
      ...places,
    } satisfies LinearAttentionAttributes,
    rowWise: false,
  })[0];
}

export const linearAttentionOp: OpDefinition<LinearAttentionNode> = {
  kind: 'linearAttention',
  budget: { absolute: 2e-6, relative: 2e-5 },
  /** Features of every query and key, the state, and its products with the queries. */
  multiplyAdds({ attributes, parameters }, { inputs, outputs: [[B, N]] }) {
    const { heads, headSize, map, features, keys } = attributes;
    const S = inputs[keys.input][2];
    const projection = parameters.length ? features * headSize : 0;
    return B * heads * (N + S) * (projection + outputFeatures(map, features) * (headSize + 1));
  },
  reference({ attributes }, context) {
    const { heads: H, headSize: D, map, lengths: lengthsAt } = attributes;
    const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
      referenceRows(place, context),
    );
    const [B, N] = context.outputShapes[0];
    const W = context.parameters[0] ?? null;
    const out = new Float64Array(B * N * H * D);
    const slice = ({ data, at }: typeof queries, h: number, b: number, n: number) =>
      data.subarray(at(h, b, n), at(h, b, n) + D);
    for (let b = 0; b < B; b++) {
      const length = lengthsAt === null ? keys.rows : Math.min(keys.rows, context.inputs[lengthsAt].data[b]);
      for (let h = 0; h < H; h++) {
        const rowsOf = (source: typeof queries, count: number) =>
          Array.from({ length: count }, (_, n) => slice(source, h, b, n));
        const matrix = W && rowsOfMatrix(W, W.shape[0] === 1 ? 0 : h, D);
        const phiQ = queryFeatures(map, matrix, rowsOf(queries, N));
        const phiK = keyFeatures(map, matrix, rowsOf(keys, length));
        const M = phiQ[0]?.length ?? 0;
        const state = new Float64Array(M * D); // φ(K)ᵀV [M, D]
        const sums = new Float64Array(M); // φ(K)ᵀ1
        phiK.forEach((phi, n) => {
          const v = slice(values, h, b, n);
          for (let m = 0; m < M; m++) {
            sums[m] += phi[m];
            for (let d = 0; d < D; d++) state[m * D + d] += phi[m] * v[d];
          }
        });
        phiQ.forEach((phi, n) => {
          let denominator = 0;
          for (let m = 0; m < M; m++) denominator += phi[m] * sums[m];
          if (denominator === 0) return;
          const to = ((b * N + n) * H + h) * D;
          for (let m = 0; m < M; m++)
            for (let d = 0; d < D; d++) out[to + d] += (phi[m] * state[m * D + d]) / denominator;
        });
      }
    }
    return [out];
  },
};

function rowsOfMatrix(
  { data, shape: [, m, pitch] }: { data: Float64Array; shape: readonly number[] },
  head: number,
  D: number,
): Float64Array[] {
  return Array.from({ length: m }, (_, i) => {
    const at = (head * m + i) * pitch;
    return data.subarray(at, at + D);
  });
}
