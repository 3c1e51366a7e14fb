import type {
  StraightThrough,
  StraightThroughGradientNode,
} from '../../../../program/gradient/fake-quantize.ts';
import type { FakeBinarizeNode } from '../../../../program/ops/fake-binarize.ts';
import type { FakeQuantizeAttributes, FakeQuantizeNode } from '../../../../program/ops/fake-quantize.ts';
import type { FakeQuantizeRowsNode } from '../../../../program/ops/fake-quantize-rows.ts';
import type { Node } from '../../../../program/program.ts';
import { elements, groupSizeOf, specOf } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { type Lowering, type OpLowering, only } from '../../lowering.ts';
import { fakeQuantizeKernel } from '../kernels/fake-quantize.ts';
import {
  fakeBinarizeKernel,
  fakeQuantizeRowsKernel,
  straightThroughKernel,
} from '../kernels/straight-through.ts';

/** One kernel for all weights that are stored alike, whatever their shapes. */
const keyOf = ({ attributes: { spec, ternary } }: FakeQuantizeNode): string => {
  const { shape: _, groupSize: __, ...stored } = specOf(spec);
  return `fakeQuantize:${JSON.stringify({ ...stored, ternary })}`;
};

function attributesOf(text: string): FakeQuantizeAttributes {
  const { ternary, ...stored } = JSON.parse(text);
  return { spec: { ...stored, shape: [] }, ternary };
}

export const fakeQuantizeLowering: OpLowering<FakeQuantizeNode> = {
  kind: 'fakeQuantize',
  kernels: { fakeQuantize: (variant) => fakeQuantizeKernel(attributesOf(variant)) as unknown as Kernel },
  keys: (node) => [keyOf(node)],
  steps(node, { weight, step }) {
    const { spec } = node.attributes;
    const size = groupSizeOf(spec);
    const fields = { w: weight(node.parameters[0]), y: weight(node.sets![0]), size };
    return [step(keyOf(node), fields, elements(spec.shape) / size)];
  },
};

function rowsOf(node: Node, { at, shape, first, weight }: Lowering) {
  const columns = shape(node.inputs[0]).at(-1)!;
  return {
    x: at(node.inputs[0], first, columns * 4),
    y: at(node.outputs[0], first, columns * 4),
    columns,
    range: node.parameters.length > 0 ? weight(node.parameters[0]) : 0,
  };
}

export const fakeQuantizeRowsLowering: OpLowering<FakeQuantizeRowsNode> = {
  kind: 'fakeQuantizeRows',
  kernels: { fakeQuantizeRows: (given) => fakeQuantizeRowsKernel(given === 'given') as unknown as Kernel },
  keys: ({ attributes }) => [`fakeQuantizeRows:${attributes.range ? 'given' : 'own'}`],
  steps: (node, lowering) => [
    lowering.step(
      `fakeQuantizeRows:${node.attributes.range ? 'given' : 'own'}`,
      rowsOf(node, lowering),
      lowering.count,
    ),
  ],
};

export const fakeBinarizeLowering: OpLowering<FakeBinarizeNode> = {
  kind: 'fakeBinarize',
  kernels: { fakeBinarize: only(fakeBinarizeKernel) },
  keys: () => ['fakeBinarize'],
  steps: (node, lowering) => [lowering.step('fakeBinarize', rowsOf(node, lowering), lowering.count)],
};

export const straightThroughGradientLowering: OpLowering<StraightThroughGradientNode> = {
  kind: 'straightThroughGradient',
  kernels: {
    straightThrough: (estimate) => straightThroughKernel(estimate as StraightThrough) as unknown as Kernel,
  },
  keys: ({ attributes }) => [`straightThrough:${attributes.estimate}`],
  steps(node, lowering) {
    const { at, first, count } = lowering;
    const rows = rowsOf(node, lowering);
    const fields = {
      ...rows,
      dy: at(node.inputs[1], first, rows.columns * 4),
      ends: at(node.outputs[1], first, 8),
    };
    return [lowering.step(`straightThrough:${node.attributes.estimate}`, fields, count)];
  },
};
