import { shapeError } from '../../../program/op.ts';
import type { ProjectRowsNode } from '../../../program/ops/project-rows.ts';
import { evaluateDim } from '../../../tensor/dim.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { countRowsKernel, projectRowsKernel } from '../kernels/project-rows.ts';
import { type OpLowering, only } from '../lowering.ts';

const keyOf = ({ outputs: [y] }: ProjectRowsNode): string => `projectRows:${evaluateDim(y.shape[3], {})}`;

export const projectRowsLowering: OpLowering<ProjectRowsNode> = {
  kind: 'projectRows',
  kernels: {
    projectRows: (pitch) => projectRowsKernel(Number(pitch)) as Kernel,
    countRows: only(countRowsKernel),
  },
  keys: (node) => [keyOf(node), 'countRows'],
  steps(node, { at, shape, weight, step }) {
    const { from, heads } = node.attributes;
    const [x, lengths] = node.inputs;
    const [y, counts] = node.outputs;
    const [sets, r, columns] = node.parameters[0].shape;
    const [, B, N, pitch] = shape(x);
    if (N > columns)
      throw shapeError('projectRows', 'sequence longer than its matrix', `at most ${columns}`, `${N}`);
    const shared = {
      e: weight(node.parameters[0]),
      set: r * columns * 4,
      sets,
      lengths: at(lengths),
      N,
      r,
      columns,
    };
    const fields = { ...shared, x: at(x) + from * B * N * pitch * 4, y: at(y), heads, B };
    return [
      step(keyOf(node), fields, heads * B, 1),
      step('countRows', { ...shared, counts: at(counts) }, B, 1),
    ];
  },
};
