import type {
  HeadProductAttributes,
  HeadProductNode,
  HeadProductSumNode,
} from '../../../../program/gradient/head-product.ts';
import type { ProductForm } from '../../../../program/gradient/matrix-product.ts';
import type { Node } from '../../../../program/program.ts';
import type { Lowering, OpLowering } from '../../lowering.ts';
import { headProductKernel, headProductScratch, ROW_BLOCK } from '../kernels/head-product.ts';
import { gradientOf, zerosOf } from '../weights.ts';

interface Operand {
  readonly base: number;
  readonly head: number;
  readonly batch: number;
  readonly ld: number;
  readonly rows: number;
  readonly columns: number;
  /** Heads that share one matrix. */
  readonly shared: number;
}

function operandOf(
  node: Pick<Node, 'inputs' | 'parameters'>,
  place: HeadProductAttributes['a'],
  heads: number,
  { at, shape, weight }: Lowering,
): Operand {
  if ('parameter' in place) {
    const parameter = node.parameters[place.parameter];
    const [sets, rows, columns] = parameter.shape;
    const head = rows * columns * 4;
    return { base: weight(parameter), head, batch: 0, ld: columns * 4, rows, columns, shared: heads / sets };
  }
  const value = node.inputs[place.input];
  const [, B, rows, columns] = shape(value);
  const batch = rows * columns * 4;
  const head = B * batch;
  return { base: at(value) + place.from * head, head, batch, ld: columns * 4, rows, columns, shared: 1 };
}

const kernels: OpLowering['kernels'] = {
  headProduct: (form) => headProductKernel(form as ProductForm),
};

/** Fields of both operands, and the depth: that of the one that is a value. */
function operandFields(node: HeadProductNode | HeadProductSumNode, lowering: Lowering) {
  const { form, heads } = node.attributes;
  const a = operandOf(node, node.attributes.a, heads, lowering);
  const b = operandOf(node, node.attributes.b, heads, lowering);
  const [ofA, ofB] = [form === 'aᵀ·b' ? a.rows : a.columns, form === 'a·bᵀ' ? b.columns : b.rows];
  const fields = {
    a: a.base,
    aHead: a.head,
    aBatch: a.batch,
    lda: a.ld,
    aShared: a.shared,
    b: b.base,
    bHead: b.head,
    bBatch: b.batch,
    ldb: b.ld,
    bShared: b.shared,
    depth:
      'parameter' in node.attributes.a ? ofB : 'parameter' in node.attributes.b ? ofA : Math.min(ofA, ofB),
    zeros: zerosOf(lowering),
  };
  return {
    fields,
    rows: form === 'aᵀ·b' ? a.columns : a.rows,
    columns: form === 'a·bᵀ' ? b.rows : b.columns,
  };
}

export const headProductLowering: OpLowering<HeadProductNode> = {
  kind: 'headProduct',
  kernels,
  keys: ({ attributes }) => [`headProduct:${attributes.form}`],
  scratchBytes: ({ outputs: [y] }, shape, { panel }) => headProductScratch(shape(y)[3], panel),
  steps(node, lowering) {
    const { at, shape, step } = lowering;
    const [y] = node.outputs;
    const [heads, B, rows, columns] = shape(y);
    const batch = rows * columns * 4;
    const fields = {
      ...operandFields(node, lowering).fields,
      c: at(y),
      cHead: B * batch,
      cBatch: batch,
      ldc: columns * 4,
      add: 0,
      rows,
      columns,
      outerBatches: B,
      innerHeads: 1,
      innerBatches: 1,
      rowBlocks: 1,
    };
    return [step(`headProduct:${node.attributes.form}`, fields, heads * B, 1)];
  },
};

export const headProductSumLowering: OpLowering<HeadProductSumNode> = {
  kind: 'headProductSum',
  kernels,
  keys: ({ attributes }) => [`headProduct:${attributes.form}`],
  scratchBytes({ inputs, attributes: { form, b } }, shape, { panel }) {
    const [rows, columns] = shape(inputs[(b as { input: number }).input]).slice(-2);
    return headProductScratch(form === 'a·bᵀ' ? rows : columns, panel);
  },
  steps(node, lowering) {
    const { shape, step } = lowering;
    const { form, heads } = node.attributes;
    const [parameter] = node.gradients!;
    const [sets, P, Q] = parameter.shape;
    const { fields, rows, columns } = operandFields(node, lowering);
    const rowBlocks = Math.ceil(rows / ROW_BLOCK);
    const all = {
      ...fields,
      c: gradientOf(lowering, parameter),
      cHead: P * Q * 4,
      cBatch: 0,
      ldc: Q * 4,
      add: 1,
      rows,
      columns,
      outerBatches: 1,
      innerHeads: heads / sets,
      innerBatches: shape(node.inputs[0])[1],
      rowBlocks,
    };
    return [step(`headProduct:${form}`, all, sets * rowBlocks, 1)];
  },
};
