import type { OpDefinition } from '../op.ts';
import { padHead } from '../ops/linear.ts';
import type { SpikingAttentionNode } from '../ops/spiking-attention.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { maskRows } from './add-heads.ts';
import { headProduct } from './head-product.ts';
import { divideByLast, widened, withOnes } from './linear-attention.ts';
import { again, plainRule } from './rule.ts';

interface HeadSize {
  readonly size: number;
}
export type SpikesNode = Node<'spikes', HeadSize>;
export type SpikesGradientNode = Node<'spikesGradient', HeadSize>;
export type ThresholdGradientNode = Node<'thresholdGradient', HeadSize>;
export type ScaleHeadsNode = Node<'scaleHeads', HeadSize & { readonly offset: boolean }>;
export type ScaleHeadsWeightGradientNode = Node<'scaleHeadsWeightGradient', HeadSize>;

/** 1 where x `[…H, B, N, D′]` is above its channel's threshold `[…H, D′]`, else 0; 0 in columns that only pad. */
function spikes(t: Tracer, x: Value, thresholds: Parameter, size: number): Value {
  return t.emit('spikes', {
    inputs: [x],
    parameters: [thresholds],
    outputs: [['y', 'float32', x.shape]],
    attributes: { size },
    rowWise: false,
  })[0];
}

/** `[B, N, H·D]` times the first half of the readout `[2·H, D′]` by channel, plus the second where `offset`. */
function scaleHeads(t: Tracer, x: Value, readout: Parameter, size: number, offset: boolean): Value {
  return t.emit('scaleHeads', {
    inputs: [x],
    parameters: [readout],
    outputs: [['y', 'float32', x.shape]],
    attributes: { size, offset },
    rowWise: true,
  })[0];
}

/**
 * Attention on spikes, taken apart for training. Spikes are numbers, 0 and 1; shared channels are products, so that it
 * is linear attention whose features are spikes.
 */
export function expandSpikingAttention(
  t: Tracer,
  node: SpikingAttentionNode,
  inputs: readonly Value[],
): Value[] {
  const { heads, headSize: D } = node.attributes;
  const [thresholds, readout] = node.parameters;
  const [qkv, lengths] = inputs;
  const fired = spikes(t, qkv, thresholds, D); // [3H, B, N, D′]
  const keys = maskRows(t, fired, heads, heads, lengths);
  const ones = withOnes(t, fired, 2 * heads, heads, D);
  const all = (value: Value) => ({ value, from: 0 });
  const columns = widened(D);
  const state = headProduct(t, all(keys), all(ones), { form: 'aᵀ·b', heads, rows: padHead(D), columns });
  const sums = headProduct(t, all(fired), all(state), { form: 'a·b', heads, rows: qkv.shape[2], columns });
  const counts = again(t, node, inputs)[1];
  return [scaleHeads(t, divideByLast(t, sums, heads, D), readout, D, true), counts];
}

export const spikesRule = plainRule<SpikesNode>(
  'spikes',
  (t, { attributes, parameters: [thresholds] }, { inputs: [x], gradients: [dy], sink, trains }) => {
    if (!dy || (!sink.wants(0) && !trains(thresholds))) return;
    const [dx] = t.emit('spikesGradient', {
      inputs: [x, dy],
      parameters: [thresholds],
      outputs: [['dx', 'float32', x.shape]],
      attributes,
      rowWise: false,
    });
    if (trains(thresholds))
      t.emit('thresholdGradient', {
        inputs: [dx],
        parameters: [],
        outputs: [],
        attributes,
        rowWise: false,
        gradients: [thresholds],
      });
    if (sink.wants(0)) sink.add(0, dx);
  },
);

export const scaleHeadsRule = plainRule<ScaleHeadsNode>(
  'scaleHeads',
  (t, { attributes: { size }, parameters: [readout] }, { inputs: [x], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    if (trains(readout))
      t.emit('scaleHeadsWeightGradient', {
        inputs: [x, dy],
        parameters: [],
        outputs: [],
        attributes: { size },
        rowWise: false,
        gradients: [readout],
      });
    if (sink.wants(0)) sink.add(0, scaleHeads(t, dy, readout, size, false));
  },
);

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Every number of `[heads, B, N, D′]` that does not pad: where it stands, and where its channel does in `[heads, D′]`. */
function eachChannel(
  [heads, B, N, pitch]: readonly number[],
  D: number,
  visit: (i: number, c: number) => void,
) {
  for (let row = 0; row < heads * B * N; row++)
    for (let d = 0; d < D; d++) visit(row * pitch + d, Math.floor(row / (B * N)) * pitch + d);
}

export const spikesOp: OpDefinition<SpikesNode> = {
  kind: 'spikes',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { outputs }) => size(outputs[0]),
  reference({ attributes }, { inputs: [x], parameters: [{ data: thresholds }] }) {
    const y = new Float64Array(x.data.length);
    eachChannel(x.shape, attributes.size, (i, c) => {
      y[i] = x.data[i] > thresholds[c] ? 1 : 0;
    });
    return [y];
  },
};

/**
 * What stands for the derivative of a step: a triangle of height and half width 1 around the threshold, dx = dy ·
 * max(0, 1 − |x − θ|) (Bellec et al. 2018, LSNN, section 2).
 */
export const spikesGradientOp: OpDefinition<SpikesGradientNode> = {
  kind: 'spikesGradient',
  budget: { absolute: 1e-6, relative: 2e-6 },
  multiplyAdds: (_node, { outputs }) => 2 * size(outputs[0]),
  reference({ attributes }, { inputs: [x, dy], parameters: [{ data: thresholds }] }) {
    const dx = new Float64Array(x.data.length);
    eachChannel(x.shape, attributes.size, (i, c) => {
      dx[i] = dy.data[i] * Math.max(0, 1 - Math.abs(x.data[i] - thresholds[c]));
    });
    return [dx];
  },
};

/** A threshold moves against its channel: dθ = −Σ dx. */
export const thresholdGradientOp: OpDefinition<ThresholdGradientNode> = {
  kind: 'thresholdGradient',
  budget: { absolute: 2e-6, relative: 4e-6 },
  multiplyAdds: (_node, { inputs: [dx] }) => size(dx),
  reference({ attributes }, { inputs: [dx] }) {
    const out = new Float64Array(dx.shape[0] * dx.shape[3]);
    eachChannel(dx.shape, attributes.size, (i, c) => {
      out[c] -= dx.data[i];
    });
    return [out];
  },
};

export const scaleHeadsOp: OpDefinition<ScaleHeadsNode> = {
  kind: 'scaleHeads',
  budget: { absolute: 1e-6, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => size(outputs[0]),
  reference({ attributes: { size: D, offset } }, { inputs: [x], parameters: [readout] }) {
    const [H, pitch] = [readout.shape[0] / 2, readout.shape[1]];
    return [
      x.data.map((v, i) => {
        const [h, d] = [Math.floor(i / D) % H, i % D];
        return v * readout.data[h * pitch + d] + (offset ? readout.data[(H + h) * pitch + d] : 0);
      }),
    ];
  },
};

export const scaleHeadsWeightGradientOp: OpDefinition<ScaleHeadsWeightGradientNode> = {
  kind: 'scaleHeadsWeightGradient',
  budget: { absolute: 2e-6, relative: 4e-6 },
  multiplyAdds: (_node, { inputs: [x] }) => 2 * size(x),
  reference({ attributes: { size: D } }, { inputs: [x, dy] }) {
    const H = x.shape[2] / D;
    const pitch = padHead(D);
    const out = new Float64Array(2 * H * pitch);
    x.data.forEach((v, i) => {
      const [h, d] = [Math.floor(i / D) % H, i % D];
      out[h * pitch + d] += v * dy.data[i];
      out[(H + h) * pitch + d] += dy.data[i];
    });
    return [out];
  },
};

/** The ops that spikes are trained by. */
export const SPIKING_OPS = [
  spikesOp,
  spikesGradientOp,
  thresholdGradientOp,
  scaleHeadsOp,
  scaleHeadsWeightGradientOp,
] as const;
