import type { Activation, ActivationNode } from '../../../program/ops/activation.ts';
import type { LayerNormNode } from '../../../program/ops/layer-norm.ts';
import type { QuantizeRowsNode } from '../../../program/ops/quantize-rows.ts';
import type { Node } from '../../../program/program.ts';
import type { Kernel } from '../kernels/kernel.ts';
import {
  activationKernel,
  l2NormalizeKernel,
  layerNormKernel,
  quantizeRowsKernel,
  softmaxKernel,
} from '../kernels/rows.ts';
import { type Lowering, type OpLowering, only } from '../lowering.ts';

/** Input and output of an op whose rows are as wide as its input's. */
function rowsOf({ inputs: [x], outputs: [y] }: Node, { at, shape, first }: Lowering) {
  const columns = shape(x).at(-1)!;
  return { x: at(x, first, columns * 4), y: at(y, first, columns * 4), columns };
}

const plain = (kind: string, kernel: unknown): OpLowering => ({
  kind,
  kernels: { [kind]: only(kernel) },
  keys: () => [kind],
  steps: (node, lowering) => [lowering.step(kind, rowsOf(node, lowering), lowering.count)],
});

export const l2NormalizeLowering = plain('l2Normalize', l2NormalizeKernel);
export const softmaxLowering = plain('softmax', softmaxKernel);

export const activationLowering: OpLowering<ActivationNode> = {
  kind: 'activation',
  kernels: { activation: (kind) => activationKernel(kind as Activation) as Kernel },
  keys: ({ attributes }) => [`activation:${attributes.activation}`],
  steps: (node, lowering) => [
    lowering.step(`activation:${node.attributes.activation}`, rowsOf(node, lowering), lowering.count),
  ],
};

export const layerNormLowering: OpLowering<LayerNormNode> = {
  kind: 'layerNorm',
  kernels: { layerNorm: only(layerNormKernel) },
  keys: () => ['layerNorm'],
  steps(node, lowering) {
    const [scale, bias] = node.parameters.map(lowering.weight);
    const fields = { ...rowsOf(node, lowering), scale, bias, epsilon: node.attributes.epsilon };
    return [lowering.step('layerNorm', fields, lowering.count)];
  },
};

const quantizeKey = ({ attributes: { range, scaled } }: QuantizeRowsNode): string =>
  `quantizeRows:${range ? 'range' : ''}${scaled ? 'scaled' : ''}`;

export const quantizeRowsLowering: OpLowering<QuantizeRowsNode> = {
  kind: 'quantizeRows',
  kernels: {
    quantizeRows: (which) =>
      quantizeRowsKernel({ range: which.startsWith('range'), scaled: which.endsWith('scaled') }) as Kernel,
  },
  keys: (node) => [quantizeKey(node)],
  steps(node, lowering) {
    const { at, shape, first, count, features } = lowering;
    const [codes, scales] = node.outputs;
    const pitch = shape(codes).at(-1)!;
    const bytes = pitch * (features.dot === 'i16' ? 2 : 1);
    const weights = node.parameters.map(lowering.weight);
    const range = node.attributes.range ? weights[0] : 0;
    const by = node.attributes.scaled ? weights.at(-1)! : 0;
    const places = { codes: at(codes, first, bytes), scales: at(scales, first, 8), range, by, pitch };
    return [lowering.step(quantizeKey(node), { ...rowsOf(node, lowering), ...places }, count)];
  },
};
