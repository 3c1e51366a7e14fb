import type { OpDefinition, ReferenceContext } from '../op.ts';
import { referenceRows } from '../ops/attention.ts';
import {
  type FastWeightFeature,
  type FastWeightsAttributes,
  type FastWeightsNode,
  fastWeightsOp,
  featureOf,
} from '../ops/fast-weights.ts';
import type { HeadPlace } from '../ops/head-sources.ts';
import type { Node } from '../program.ts';
import { addHeads } from './add-heads.ts';
import { plainRule } from './rule.ts';

/** Inputs: those of the memory, then the gradient of what was read. Outputs: those of queries, keys and values by head. */
export type FastWeightsGradientNode = Node<'fastWeightsGradient', FastWeightsAttributes>;

export const fastWeightsRule = plainRule<FastWeightsNode>(
  'fastWeights',
  (t, { attributes }, { inputs, gradients: [dy], sink }) => {
    if (!dy) return;
    const places: readonly HeadPlace[] = [attributes.queries, attributes.keys, attributes.values];
    if (!places.some(({ input }) => sink.wants(input))) return;
    const parts = t.emit('fastWeightsGradient', {
      inputs: [...inputs, dy],
      parameters: [],
      outputs: places.map(({ input }, i) => [
        ['dq', 'dk', 'dv'][i],
        'float32',
        [attributes.heads, ...inputs[input].shape.slice(1)],
      ]),
      attributes,
      rowWise: false,
    });
    places.forEach(({ input, from }, i) => {
      if (sink.wants(input))
        sink.replace(input, addHeads(t, inputs[input].shape, sink.soFar(input), parts[i], from));
    });
  },
);

/** Gradient of x where d is that of its features φ = f / ‖f‖: df = (d − φ (φ·d)) / ‖f‖. */
function featureGradient(x: Float64Array, phi: Float64Array, d: Float64Array, kind: FastWeightFeature) {
  const along = phi.reduce((sum, p, i) => sum + p * d[i], 0);
  return x.map((v, i) => {
    const g = (d[i] - phi[i] * along) * phi[i];
    // φ / f is 1 / ‖f‖; below 0 the derivative of exp is f itself.
    if (v > 0) return g / (kind === 'relu' ? v : v + 1);
    return kind === 'relu' ? 0 : g;
  });
}

/** S += scale · a ⊗ b, `[D, D]`. */
function addOuter(S: Float64Array, a: Float64Array, b: Float64Array, scale: number): void {
  const D = a.length;
  for (let i = 0; i < D; i++) for (let d = 0; d < D; d++) S[i * D + d] += scale * a[i] * b[d];
}
const timesColumns = (S: Float64Array, x: Float64Array): Float64Array =>
  x.map((_, d) => x.reduce((sum, v, i) => sum + v * S[i * x.length + d], 0));
const timesRows = (S: Float64Array, x: Float64Array): Float64Array =>
  x.map((_, i) => x.reduce((sum, v, d) => sum + v * S[i * x.length + d], 0));

/**
 * Backward pass of the delta rule in memory that does not grow with the length: with e = β (v − Sᵀφ) kept of each token,
 * the state before a token is the one after it less φ ⊗ e. With G the gradient of the state after a token,
 * dv = β Gᵀφ, dφ = G e − S dv for the state before it, and G becomes G − φ ⊗ dv.
 */
export const fastWeightsGradientOp: OpDefinition<FastWeightsGradientNode> = {
  kind: 'fastWeightsGradient',
  budget: { absolute: 4e-6, relative: 4e-5 },
  multiplyAdds: (node, context) =>
    3 *
    fastWeightsOp.multiplyAdds(node as unknown as FastWeightsNode, {
      ...context,
      outputs: [context.inputs.at(-1)!],
    }),
  reference({ attributes }, context: ReferenceContext) {
    const { heads: H, headSize: D, feature, beta, causal, lengths: lengthsAt } = attributes;
    const [queries, keys, values] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
      referenceRows(place, context),
    );
    const dy = context.inputs.at(-1)!;
    const [B, N] = dy.shape;
    const gradients = context.outputShapes.map((shape) => new Float64Array(shape.reduce((a, b) => a * b, 1)));
    const row = ({ data, at }: typeof queries, h: number, b: number, n: number) =>
      data.subarray(at(h, b, n), at(h, b, n) + D);
    const give = (part: number, h: number, b: number, n: number, of: Float64Array) => {
      const [, , rows, pitch] = context.outputShapes[part];
      gradients[part].set(of, ((h * B + b) * rows + n) * pitch);
    };
    for (let b = 0; b < B; b++) {
      const length = lengthsAt === null ? keys.rows : Math.min(keys.rows, context.inputs[lengthsAt].data[b]);
      for (let h = 0; h < H; h++) {
        const [S, G] = [new Float64Array(D * D), new Float64Array(D * D)];
        const phis = Array.from({ length }, (_, n) => featureOf(row(keys, h, b, n), feature));
        const errors = phis.map((phi, n) => {
          const recalled = timesColumns(S, phi);
          const e = row(values, h, b, n).map((v, d) => beta * (v - recalled[d]));
          addOuter(S, phi, e, 1);
          return e;
        });
        const read = (n: number) => {
          const x = row(queries, h, b, n);
          const phi = featureOf(x, feature);
          const d = dy.data.subarray(((b * N + n) * H + h) * D, ((b * N + n) * H + h + 1) * D);
          addOuter(G, phi, d, 1);
          give(0, h, b, n, featureGradient(x, phi, timesRows(S, d), feature));
        };
        const write = (n: number) => {
          const [phi, e] = [phis[n], errors[n]];
          const dv = timesColumns(G, phi).map((v) => beta * v);
          const throughWrite = timesRows(G, e);
          addOuter(S, phi, e, -1);
          const throughRecall = timesRows(S, dv);
          const d = throughWrite.map((v, i) => v - throughRecall[i]);
          addOuter(G, phi, dv, -1);
          give(1, h, b, n, featureGradient(row(keys, h, b, n), phi, d, feature));
          give(2, h, b, n, dv);
        };
        if (!causal) for (let n = 0; n < N; n++) read(n);
        for (let n = Math.max(N, length) - 1; n >= 0; n--) {
          if (causal) read(n);
          if (n < length) write(n);
        }
      }
    }
    return gradients;
  },
};
