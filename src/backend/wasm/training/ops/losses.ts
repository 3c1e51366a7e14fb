import type { WeightedSumNode } from '../../../../program/gradient/loss-sums.ts';
import type { RowLossAttributes, RowLossKind } from '../../../../program/gradient/row-losses.ts';
import type { Node } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import { type OpLowering, only } from '../../lowering.ts';
import {
  meanRowsGradientKernel,
  meanRowsKernel,
  rowLossKernel,
  rowNumbersKernel,
  weightedSumKernel,
} from '../kernels/losses.ts';

const rowLossLowering = (
  kind: RowLossKind,
  gradient: boolean,
): OpLowering<Node<string, RowLossAttributes>> => {
  const name = gradient ? `${kind}Gradient` : kind;
  return {
    kind: name,
    kernels: { [name]: only(rowLossKernel(kind, gradient)) },
    keys: () => [name],
    steps({ inputs, outputs: [y], attributes }, { at, shape, step }) {
      const { lengths, smoothing, temperature, divergence } = attributes;
      const [a, b] = inputs;
      const columns = shape(a).at(-1)!;
      const fields = {
        a: at(a),
        b: at(b),
        lengths: lengths === null ? 0 : at(inputs[lengths]),
        d: gradient ? at(inputs.at(-1)!) : 0,
        y: at(y),
        N: shape(a).at(-2) ?? 1,
        columns,
        smoothing,
        temperature,
        divergence: divergence ? -1 : 0,
      };
      return [step(name, fields, elements(shape(a)) / columns)];
    },
  };
};

const KINDS = ['squaredError', 'cosineDistance', 'crossEntropy', 'softCrossEntropy'] as const;
export const rowLossLowerings = KINDS.flatMap((kind) => [
  rowLossLowering(kind, false),
  rowLossLowering(kind, true),
]);

export const rowNumbersLowering: OpLowering = {
  kind: 'rowNumbers',
  kernels: { rowNumbers: only(rowNumbersKernel) },
  keys: () => ['rowNumbers'],
  steps: ({ outputs: [y] }, { at, shape, step }) => [step('rowNumbers', { y: at(y) }, shape(y)[0])],
};

export const meanRowsLowering: OpLowering = {
  kind: 'meanRows',
  kernels: { meanRows: only(meanRowsKernel) },
  keys: () => ['meanRows'],
  steps({ inputs: [rows], outputs: [mean, inverse] }, { at, shape, step }) {
    const fields = { rows: at(rows), count: elements(shape(rows)) / 2, mean: at(mean), inverse: at(inverse) };
    return [step('meanRows', fields, 1)];
  },
};

export const meanRowsGradientLowering: OpLowering = {
  kind: 'meanRowsGradient',
  kernels: { meanRowsGradient: only(meanRowsGradientKernel) },
  keys: () => ['meanRowsGradient'],
  steps({ inputs: [inverse, d], outputs: [rows] }, { at, shape, step }) {
    const fields = { inverse: at(inverse), d: at(d), rows: at(rows) };
    return [step('meanRowsGradient', fields, elements(shape(rows)) / 2)];
  },
};

export const weightedSumLowering: OpLowering<WeightedSumNode> = {
  kind: 'weightedSum',
  kernels: { weightedSum: only(weightedSumKernel) },
  keys: () => ['weightedSum'],
  steps: ({ inputs, outputs: [y], attributes }, { at, step }) =>
    inputs.map((x, i) =>
      step('weightedSum', { x: at(x), y: at(y), weight: attributes.weights[i], add: i ? 1 : 0 }, 1),
    ),
};
