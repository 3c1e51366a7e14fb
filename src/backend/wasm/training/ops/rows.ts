import type { ActivationGradientNode } from '../../../../program/gradient/activation.ts';
import { type DropoutNode, dropoutThreshold } from '../../../../program/gradient/dropout.ts';
import type {
  LayerNormGradientNode,
  LayerNormWeightGradientNode,
} from '../../../../program/gradient/layer-norm.ts';
import type { Activation } from '../../../../program/ops/activation.ts';
import type { Node } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { type Lowering, type OpLowering, only } from '../../lowering.ts';
import {
  activationGradientKernel,
  addKernel,
  DROPOUT_ELEMENTS,
  dropoutKernel,
} from '../kernels/elementwise.ts';
import {
  COLUMNS,
  l2NormalizeGradientKernel,
  layerNormGradientKernel,
  layerNormWeightGradientKernel,
  softmaxGradientKernel,
} from '../kernels/rows.ts';
import { gradientOf } from '../weights.ts';

/** Two inputs and an output of one shape, under the names that the kernel has for them. */
function pair(node: Node, { at, shape, first }: Lowering, names: readonly [string, string]) {
  const columns = shape(node.outputs[0]).at(-1)!;
  const [a, b] = node.inputs.map((v) => at(v, first, columns * 4));
  return { [names[0]]: a, [names[1]]: b, y: at(node.outputs[0], first, columns * 4), columns };
}

const pairLowering = (kind: string, kernel: unknown, names: readonly [string, string]): OpLowering => ({
  kind,
  kernels: { [kind]: only(kernel) },
  keys: () => [kind],
  steps: (node, lowering) => [lowering.step(kind, pair(node, lowering, names), lowering.count)],
});

export const addLowering = pairLowering('add', addKernel, ['a', 'b']);
export const l2NormalizeGradientLowering = pairLowering('l2NormalizeGradient', l2NormalizeGradientKernel, [
  'x',
  'dy',
]);
export const softmaxGradientLowering = pairLowering('softmaxGradient', softmaxGradientKernel, ['x', 'dy']);

export const activationGradientLowering: OpLowering<ActivationGradientNode> = {
  kind: 'activationGradient',
  kernels: { activationGradient: (kind) => activationGradientKernel(kind as Activation) as Kernel },
  keys: ({ attributes }) => [`activationGradient:${attributes.activation}`],
  steps: (node, lowering) => [
    lowering.step(
      `activationGradient:${node.attributes.activation}`,
      pair(node, lowering, ['x', 'dy']),
      lowering.count,
    ),
  ],
};

export const layerNormGradientLowering: OpLowering<LayerNormGradientNode> = {
  kind: 'layerNormGradient',
  kernels: { layerNormGradient: only(layerNormGradientKernel) },
  keys: () => ['layerNormGradient'],
  steps(node, lowering) {
    const { at, first, count, weight, step } = lowering;
    const fields = {
      ...pair(node, lowering, ['x', 'dy']),
      statistics: at(node.outputs[1], first, 8),
      scale: weight(node.parameters[0]),
      epsilon: node.attributes.epsilon,
    };
    return [step('layerNormGradient', fields, count)];
  },
};

export const layerNormWeightGradientLowering: OpLowering<LayerNormWeightGradientNode> = {
  kind: 'layerNormWeightGradient',
  kernels: { layerNormWeightGradient: only(layerNormWeightGradientKernel) },
  keys: () => ['layerNormWeightGradient'],
  steps(node, lowering) {
    const { at, shape, step } = lowering;
    const [x, dy, statistics] = node.inputs.map((v) => at(v));
    const columns = shape(node.inputs[0]).at(-1)!;
    const { scale, bias } = node.attributes;
    const gradients = node.gradients!.map((p) => gradientOf(lowering, p));
    const fields = {
      x,
      dy,
      statistics,
      scale: scale ? gradients[0] : 0,
      bias: bias ? gradients.at(-1)! : 0,
      rows: elements(shape(node.inputs[0])) / columns,
      columns,
    };
    return [step('layerNormWeightGradient', fields, Math.ceil(columns / COLUMNS))];
  },
};

export const dropoutLowering: OpLowering<DropoutNode> = {
  kind: 'dropout',
  kernels: { dropout: only(dropoutKernel) },
  keys: () => ['dropout'],
  steps({ inputs: [x, seed, residual], outputs: [y], attributes }, { at, shape, step }) {
    const count = elements(shape(x));
    const fields = {
      x: at(x),
      y: at(y),
      residual: residual ? at(residual) : 0,
      seed: at(seed),
      count,
      place: Math.imul(attributes.place + 1, 0x9e3779b9),
      threshold: dropoutThreshold(attributes.probability),
      factor: 1 / (1 - attributes.probability),
    };
    return [step('dropout', fields, Math.ceil(count / DROPOUT_ELEMENTS))];
  },
};
