import type { Node, Parameter } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import { type OpLowering, only } from '../../lowering.ts';
import { adamWKernel, FLAT, rootKernel, squaresKernel } from '../kernels/update.ts';
import { blockBytesOf, type TrainingWeights } from '../weights.ts';

export type AdamWNode = Node<'adamW', { readonly group: number }>;

/** Norm of the block of gradients, `[1]`. */
export const gradientNormLowering: OpLowering = {
  kind: 'gradientNorm',
  kernels: { squares: only(squaresKernel), root: only(rootKernel) },
  keys: () => ['squares', 'root'],
  workspaceBytes: ({ parameters }) => {
    const floats = parameters.reduce((n, { shape }) => n + elements(shape) + 16, 0);
    return (Math.ceil(floats / FLAT) + 1) * 4;
  },
  steps(node, { at, step, weights, workspace }) {
    const { block, blockBytes } = weights as TrainingWeights;
    const units = Math.ceil(blockBytes / 4 / FLAT);
    return [
      step('squares', { x: block + blockBytes, count: blockBytes / 4, squares: workspace }, units),
      step('root', { squares: workspace, count: units, norm: at(node.outputs[0]) }, 1),
    ];
  },
};

/** Inputs: numbers of the update, groups `[G, 2]`, the gradient's norm. */
export const adamWLowering: OpLowering<AdamWNode> = {
  kind: 'adamW',
  kernels: { adamW: only(adamWKernel) },
  keys: () => ['adamW'],
  steps(node, lowering) {
    const { at, step, weight } = lowering;
    const [hyper, groups, norm] = node.inputs;
    const parameter: Parameter = node.parameters[0];
    const [p, block] = [weight(parameter), blockBytesOf(lowering)];
    const count = elements(parameter.shape);
    const fields = {
      p,
      g: p + block,
      m: p + 2 * block,
      v: p + 3 * block,
      count,
      hyper: at(hyper),
      group: at(groups) + node.attributes.group * 8,
      norm: at(norm),
    };
    return [step('adamW', fields, Math.ceil(count / FLAT))];
  },
};
