import { blocksOf, type Dim, dim, equalDims, formatShape, mulDims, symbol } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface ResidueAttributes {
  readonly stride: number;
}
export type GroupByResidueNode = Node<'groupByResidue', ResidueAttributes>;
export type UngroupByResidueNode = Node<'ungroupByResidue', ResidueAttributes>;

/**
 * Takes every sequence apart by token number modulo `stride`: x `[G, B, N, W]` → `[G, B·stride, ⌈N/stride⌉, W]`,
 * and `lengths [B]` → `[B·stride]`. Row i of class c is row c + i·stride, or 0 beyond the last. What is strided
 * attention on x is dense attention on the classes.
 */
export function groupByResidue(t: Tracer, x: Value, lengths: Value, stride: number): [Value, Value] {
  const [G, B, N, W] = x.shape;
  if (x.shape.length !== 4 || !equalDims(N, symbol('N')))
    throw shapeError('groupByResidue', 'rows of another shape', '[G, B, N, W]', formatShape(x.shape));
  const classes = mulDims(B, stride);
  return t.emit('groupByResidue', {
    inputs: [x, lengths],
    parameters: [],
    outputs: [
      ['y', 'float32', [G, classes, blocksOf('N', stride), W]],
      ['lengths', 'int32', [classes]],
    ],
    attributes: { stride },
    rowWise: false,
  }) as [Value, Value];
}

/** The way back: `[…, B·stride, ⌈N/stride⌉, W]` → `[…, B, N, W]`. */
export function ungroupByResidue(t: Tracer, x: Value, stride: number): Value {
  const [B, N] = [symbol('B'), symbol('N')];
  const lead: readonly Dim[] = x.shape.slice(0, -3);
  const [classes, rows, W] = x.shape.slice(-3);
  if (
    x.shape.length < 3 ||
    !equalDims(classes, mulDims(B, stride)) ||
    !equalDims(rows, blocksOf('N', stride))
  )
    throw shapeError(
      'ungroupByResidue',
      'classes of another shape',
      formatShape([mulDims(B, stride), blocksOf('N', stride), dim(W ?? 1)]),
      formatShape(x.shape),
    );
  return t.emit('ungroupByResidue', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', [...lead, B, N, W]]],
    attributes: { stride },
    rowWise: false,
  })[0];
}

export const groupByResidueOp: OpDefinition<GroupByResidueNode> = {
  kind: 'groupByResidue',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference({ attributes: { stride } }, { inputs: [x, lengths], outputShapes: [shape, [classes]] }) {
    const [G, B, N, W] = x.shape;
    const M = shape[2];
    const out = new Float64Array(G * classes * M * W);
    for (let gb = 0; gb < G * B; gb++)
      for (let row = 0; row < N; row++)
        for (let w = 0; w < W; w++)
          out[((gb * stride + (row % stride)) * M + Math.floor(row / stride)) * W + w] =
            x.data[(gb * N + row) * W + w];
    const counts = Float64Array.from({ length: classes }, (_, i) =>
      Math.max(0, Math.ceil((Math.min(lengths.data[Math.floor(i / stride)], N) - (i % stride)) / stride)),
    );
    return [out, counts];
  },
};

export const ungroupByResidueOp: OpDefinition<UngroupByResidueNode> = {
  kind: 'ungroupByResidue',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference({ attributes: { stride } }, { inputs: [x], outputShapes: [shape] }) {
    const [N, W] = shape.slice(-2);
    const M = x.shape.at(-2)!;
    const out = new Float64Array(shape.reduce((a, b) => a * b, 1));
    const sequences = out.length / (N * W);
    for (let s = 0; s < sequences; s++)
      for (let row = 0; row < N; row++)
        for (let w = 0; w < W; w++)
          out[(s * N + row) * W + w] =
            x.data[((s * stride + (row % stride)) * M + Math.floor(row / stride)) * W + w];
    return [out];
  },
};
