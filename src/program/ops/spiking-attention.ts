import { dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { padHead } from './linear.ts';

export interface SpikingAttentionAttributes {
  readonly heads: number;
  readonly headSize: number;
}
export type SpikingAttentionNode = Node<'spikingAttention', SpikingAttentionAttributes>;

export interface SpikingParameters {
  /** `[3·H, D′]`: a channel of queries, keys and values spikes where it is larger. */
  readonly thresholds: Parameter;
  /** `[2·H, D′]`: factors, then offsets, from the mean of the value spikes that a query met to an output. */
  readonly readout: Parameter;
}

/**
 * Attention on spikes: queries, keys and values are bits, a key weighs as many channels as it shares with the query
 * (AND, then popcount), and there is no softmax (Zhou et al. 2023, section 3.3). The output is the weighted mean of
 * the value spikes, scaled and shifted by channel; a query that shares nothing has the mean 0. qkv `[3H, B, N, D′]`
 * → `[B, N, H·D]`, and how many spikes queries, keys and values had before the lengths, `[3, B, H]`.
 *
 * Σₖ |q ∧ k|·v = Σⱼ qⱼ·(Σₖ kⱼ·v): the counts of channels that spike together are taken once, so time is linear in N.
 */
export function spikingAttention(
  t: Tracer,
  qkv: Value,
  lengths: Value,
  { thresholds, readout }: SpikingParameters,
  attributes: SpikingAttentionAttributes,
): [output: Value, spikes: Value] {
  const { heads: H, headSize: D } = attributes;
  const [, B, N] = qkv.shape;
  if (qkv.shape.length !== 4 || !equalDims(qkv.shape[0], 3 * H) || !equalDims(qkv.shape[3], padHead(D)))
    throw shapeError(
      'spikingAttention',
      'qkv of another shape',
      `[${3 * H}, B, N, ${padHead(D)}]`,
      formatShape(qkv.shape),
    );
  for (const [parameter, rows] of [
    [thresholds, 3 * H],
    [readout, 2 * H],
  ] as const) {
    expectFloat('spikingAttention', parameter);
    if (formatShape(parameter.shape) !== formatShape([rows, padHead(D)]))
      throw shapeError(
        'spikingAttention',
        parameter.name,
        `[${rows}, ${padHead(D)}]`,
        formatShape(parameter.shape),
      );
  }
  return t.emit('spikingAttention', {
    inputs: [qkv, lengths],
    parameters: [thresholds, readout],
    outputs: [
      ['o', 'float32', [B, N, dim(H * D)]],
      ['spikes', 'float32', [dim(3), B, dim(H)]],
    ],
    attributes,
    rowWise: false,
  }) as [Value, Value];
}

export const spikingAttentionOp: OpDefinition<SpikingAttentionNode> = {
  kind: 'spikingAttention',
  budget: { absolute: 2e-6, relative: 3e-6 },
  /** Additions of counts; a word of 32 tokens is one operation. */
  multiplyAdds: ({ attributes: { heads, headSize } }, { inputs: [[, B, N]] }) =>
    B * heads * headSize * headSize * (N + Math.ceil(N / 32)),
  reference({ attributes: { heads: H, headSize: D } }, { inputs: [qkv, lengths], parameters }) {
    const [, B, N, pitch] = qkv.shape;
    const [thresholds, readout] = parameters;
    const out = new Float64Array(B * N * H * D);
    const spikes = new Float64Array(3 * B * H);
    for (let b = 0; b < B; b++)
      for (let h = 0; h < H; h++) {
        const n = Math.min(lengths.data[b], N);
        const fires = (part: number, row: number, d: number): boolean =>
          qkv.data[(((part * H + h) * B + b) * N + row) * pitch + d] >
          thresholds.data[(part * H + h) * pitch + d];
        for (let part = 0; part < 3; part++)
          for (let row = 0; row < n; row++)
            for (let d = 0; d < D; d++) if (fires(part, row, d)) spikes[(part * B + b) * H + h]++;
        for (let q = 0; q < N && n > 0; q++) {
          const sums = new Float64Array(D);
          let total = 0;
          for (let k = 0; k < n; k++) {
            let weight = 0;
            for (let d = 0; d < D; d++) if (fires(0, q, d) && fires(1, k, d)) weight++;
            total += weight;
            for (let d = 0; d < D; d++) if (fires(2, k, d)) sums[d] += weight;
          }
          for (let d = 0; d < D; d++)
            out[((b * N + q) * H + h) * D + d] =
              readout.data[h * pitch + d] * (total > 0 ? sums[d] / total : 0) +
              readout.data[(H + h) * pitch + d];
        }
      }
    return [out, spikes];
  },
};
