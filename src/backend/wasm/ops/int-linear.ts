import type { IntLinearNode } from '../../../program/ops/int-linear.ts';
import { type IntLinearVariant, intLinearKernel, intLinearScratch } from '../kernels/int-linear.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';

const keyOf = ({ attributes: { output, gelu }, inputs }: IntLinearNode): string =>
  `intLinear:${output.kind}:${gelu ? 'gelu' : 'none'}:${inputs[1]?.dtype ?? 'none'}`;

function variantOf(text: string): IntLinearVariant {
  const [output, gelu, residual] = text.split(':');
  return {
    output: output as IntLinearVariant['output'],
    gelu: gelu === 'gelu',
    residual: residual as IntLinearVariant['residual'],
  };
}

export const intLinearLowering: OpLowering<IntLinearNode> = {
  kind: 'intLinear',
  kernels: { intLinear: (variant) => intLinearKernel(variantOf(variant)) as unknown as Kernel },
  keys: (node) => [keyOf(node)],
  scratchBytes: ({ parameters }) => intLinearScratch(parameters[0].shape[1]),
  steps(node, { at, weight, step, first, count }) {
    const { shift, gelu, residual, output } = node.attributes;
    const [w, bias, multiplier] = node.parameters;
    const [C, K] = w.shape;
    const bytes = output.kind === 'codes' ? 1 : 4;
    const added = node.inputs[1];
    const fields = {
      x: at(node.inputs[0], first, K),
      w: weight(w),
      bias: weight(bias),
      multiplier: weight(multiplier),
      y: at(node.outputs[0], first, C * bytes),
      residual: added ? at(added, first, C * (added.dtype === 'int8' ? 1 : 4)) : 0,
      rows: count,
      K,
      C,
      shift,
      zeroPoint: output.kind === 'codes' ? output.zeroPoint : 0,
      low: output.kind === 'codes' ? output.low : -output.limit,
      high: output.kind === 'codes' ? 127 : output.limit,
      bound: gelu?.bound ?? 0,
      one: gelu?.one ?? 0,
      reduce: gelu?.reduce ?? 0,
      geluMultiplier: gelu?.multiplier ?? 0,
      geluShift: gelu?.shift ?? 1,
      residualMultiplier: residual?.multiplier ?? 0,
      residualShift: residual?.shift ?? 1,
      residualZero: residual?.zeroPoint ?? 0,
    };
    return [step(keyOf(node), fields, Math.ceil(C / 4))];
  },
};
