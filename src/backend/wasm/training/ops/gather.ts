import type { PoolGradientNode, ScatterRowsNode } from '../../../../program/gradient/gather.ts';
import type { Pooling } from '../../../../program/ops/pool.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { type OpLowering, only } from '../../lowering.ts';
import {
  poolGradientKernel,
  SCATTER_COLUMNS,
  scatterRowsKernel,
  selectRowsGradientKernel,
} from '../kernels/gather.ts';
import { gradientOf } from '../weights.ts';

export const scatterRowsLowering: OpLowering<ScatterRowsNode> = {
  kind: 'scatterRows',
  kernels: { scatterRows: only(scatterRowsKernel) },
  keys: () => ['scatterRows'],
  steps(node, lowering) {
    const { at, shape, step } = lowering;
    const [dy, indices] = node.inputs;
    const [table] = node.gradients!;
    const [rows, columns] = table.shape;
    const fields = {
      dy: at(dy),
      indices: indices ? at(indices) : 0,
      table: gradientOf(lowering, table),
      count: elements(shape(dy)) / columns,
      N: shape(dy).at(-2)!,
      rows,
      columns,
      factor: node.attributes.factor,
    };
    return [step('scatterRows', fields, Math.ceil(columns / SCATTER_COLUMNS), 1)];
  },
};

export const poolGradientLowering: OpLowering<PoolGradientNode> = {
  kind: 'poolGradient',
  kernels: { poolGradient: (pooling) => poolGradientKernel(pooling as Pooling) as Kernel },
  keys: ({ attributes }) => [`poolGradient:${attributes.pooling}`],
  steps({ inputs: [x, lengths, dy], outputs: [y], attributes }, { at, shape, step }) {
    const [B, N, columns] = shape(x);
    const fields = { x: at(x), lengths: at(lengths), dy: at(dy), y: at(y), N, columns };
    return [step(`poolGradient:${attributes.pooling}`, fields, B)];
  },
};

export const selectRowsGradientLowering: OpLowering = {
  kind: 'selectRowsGradient',
  kernels: { selectRowsGradient: only(selectRowsGradientKernel) },
  keys: () => ['selectRowsGradient'],
  steps({ inputs: [dy, rows], outputs: [y] }, { at, shape, step }) {
    const [B, P, columns] = shape(dy);
    const fields = { dy: at(dy), rows: at(rows), y: at(y), N: shape(y)[1], P, columns };
    return [step('selectRowsGradient', fields, B)];
  },
};
