import type {
  ScaleHeadsNode,
  ScaleHeadsWeightGradientNode,
  SpikesGradientNode,
  SpikesNode,
  ThresholdGradientNode,
} from '../../../../program/gradient/spiking-attention.ts';
import { type Lowering, type OpLowering, only } from '../../lowering.ts';
import {
  scaleHeadsKernel,
  scaleHeadsWeightGradientKernel,
  spikesGradientKernel,
  spikesKernel,
  thresholdGradientKernel,
} from '../kernels/spikes.ts';
import { gradientOf } from '../weights.ts';

/** Fields of `[heads, B, N, D′]`, and how many rows there are. */
function headRows(node: SpikesNode | SpikesGradientNode | ThresholdGradientNode, { shape }: Lowering) {
  const [heads, B, N, pitch] = shape(node.inputs[0]);
  return { heads, fields: { size: node.attributes.size, pitch, rows: B * N } };
}

/** Rows by their channels' thresholds: spikes, or what passes back through them. */
const byThreshold = <N extends SpikesNode | SpikesGradientNode>(
  kind: N['kind'],
  made: unknown,
): OpLowering<N> => ({
  kind,
  kernels: { [kind]: only(made) },
  keys: () => [kind],
  steps(node, lowering) {
    const { at, weight, step } = lowering;
    const { heads, fields } = headRows(node, lowering);
    const [x, dy] = node.inputs.map((v) => at(v));
    const places = { x, dy: dy ?? 0, to: at(node.outputs[0]), thresholds: weight(node.parameters[0]) };
    return [step(kind, { ...places, ...fields }, heads * fields.rows)];
  },
});

const thresholdGradientLowering: OpLowering<ThresholdGradientNode> = {
  kind: 'thresholdGradient',
  kernels: { thresholdGradient: only(thresholdGradientKernel) },
  keys: () => ['thresholdGradient'],
  steps(node, lowering) {
    const { heads, fields } = headRows(node, lowering);
    const to = gradientOf(lowering, node.gradients![0]);
    return [lowering.step('thresholdGradient', { dx: lowering.at(node.inputs[0]), to, ...fields }, heads)];
  },
};

const scaleHeadsLowering: OpLowering<ScaleHeadsNode> = {
  kind: 'scaleHeads',
  kernels: { scaleHeads: only(scaleHeadsKernel) },
  keys: () => ['scaleHeads'],
  steps({ inputs, outputs, parameters: [readout], attributes: { size, offset } }, lowering) {
    const { at, shape, first, count, weight, step } = lowering;
    const columns = shape(inputs[0]).at(-1)!;
    const [heads, pitch] = [columns / size, readout.shape[1]];
    const factors = weight(readout);
    const fields = {
      x: at(inputs[0], first, columns * 4),
      y: at(outputs[0], first, columns * 4),
      factors,
      offsets: offset ? factors + heads * pitch * 4 : 0,
      heads,
      size,
      pitch,
    };
    return [step('scaleHeads', fields, count)];
  },
};

const scaleHeadsWeightGradientLowering: OpLowering<ScaleHeadsWeightGradientNode> = {
  kind: 'scaleHeadsWeightGradient',
  kernels: { scaleHeadsWeightGradient: only(scaleHeadsWeightGradientKernel) },
  keys: () => ['scaleHeadsWeightGradient'],
  steps({ inputs, gradients, attributes: { size } }, lowering) {
    const { at, shape, step } = lowering;
    const [B, N, columns] = shape(inputs[0]);
    const [readout] = gradients!;
    const [heads, pitch] = [columns / size, readout.shape[1]];
    const factors = gradientOf(lowering, readout);
    const fields = {
      x: at(inputs[0]),
      dy: at(inputs[1]),
      factors,
      offsets: factors + heads * pitch * 4,
      rows: B * N,
      heads,
      size,
      pitch,
    };
    return [step('scaleHeadsWeightGradient', fields, heads)];
  },
};

export const spikingLowerings = [
  byThreshold<SpikesNode>('spikes', spikesKernel),
  byThreshold<SpikesGradientNode>('spikesGradient', spikesGradientKernel),
  thresholdGradientLowering,
  scaleHeadsLowering,
  scaleHeadsWeightGradientLowering,
] as const;
