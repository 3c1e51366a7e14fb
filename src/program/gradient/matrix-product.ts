import { equalDims, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

/** Which operands are read with rows and columns exchanged. */
export type ProductForm = 'a·bᵀ' | 'a·b' | 'aᵀ·b';
export type MatrixProductNode = Node<'matrixProduct', { readonly form: ProductForm }>;
export type RowNumbersNode = Node<'rowNumbers', Record<string, never>>;

/** The product of two matrices that are values: `[P, K]` and `[Q, K]`, `[P, K]` and `[K, Q]`, or `[K, P]` and `[K, Q]` → `[P, Q]`. */
export function matrixProduct(t: Tracer, a: Value, b: Value, form: ProductForm): Value {
  const [p, k] = form === 'aᵀ·b' ? [1, 0] : [0, 1];
  const [q, l] = form === 'a·bᵀ' ? [0, 1] : [1, 0];
  if (a.shape.length !== 2 || b.shape.length !== 2 || !equalDims(a.shape[k], b.shape[l]))
    throw shapeError(
      'matrixProduct',
      `operands of ${form} that do not fit`,
      'matrices of one depth',
      `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  return t.emit('matrixProduct', {
    inputs: [a, b],
    parameters: [],
    outputs: [['y', 'float32', [a.shape[p], b.shape[q]]]],
    attributes: { form },
    rowWise: false,
  })[0];
}

/** 0, 1, 2 … for the rows of x: the labels of a batch whose row i belongs to row i. */
export function rowNumbers(t: Tracer, x: Value): Value {
  return t.emit('rowNumbers', {
    inputs: [x],
    parameters: [],
    outputs: [['n', 'int32', [x.shape[0]]]],
    attributes: {},
    rowWise: false,
  })[0];
}

export const matrixProductOp: OpDefinition<MatrixProductNode> = {
  kind: 'matrixProduct',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds: ({ attributes: { form } }, { inputs: [a], outputs: [[P, Q]] }) =>
    P * Q * a[form === 'aᵀ·b' ? 0 : 1],
  reference({ attributes: { form } }, { inputs: [a, b], outputShapes: [[P, Q]] }) {
    const K = a.shape[form === 'aᵀ·b' ? 0 : 1];
    const out = new Float64Array(P * Q);
    for (let p = 0; p < P; p++)
      for (let q = 0; q < Q; q++)
        for (let k = 0; k < K; k++)
          out[p * Q + q] +=
            a.data[form === 'aᵀ·b' ? k * P + p : p * K + k] * b.data[form === 'a·bᵀ' ? q * K + k : k * Q + q];
    return [out];
  },
};

export const rowNumbersOp: OpDefinition<RowNumbersNode> = {
  kind: 'rowNumbers',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference: (_node, { outputShapes: [[rows]] }) => [Float64Array.from({ length: rows }, (_, i) => i)],
};

export const matrixProductRule = plainRule<MatrixProductNode>(
  'matrixProduct',
  (t, { attributes: { form } }, { inputs: [a, b], gradients: [dy], sink }) => {
    if (!dy) return;
    if (sink.wants(0))
      sink.add(
        0,
        form === 'a·bᵀ'
          ? matrixProduct(t, dy, b, 'a·b')
          : form === 'a·b'
            ? matrixProduct(t, dy, b, 'a·bᵀ')
            : matrixProduct(t, b, dy, 'a·bᵀ'),
      );
    if (sink.wants(1))
      sink.add(
        1,
        form === 'a·bᵀ'
          ? matrixProduct(t, dy, a, 'aᵀ·b')
          : form === 'a·b'
            ? matrixProduct(t, a, dy, 'aᵀ·b')
            : matrixProduct(t, a, dy, 'a·b'),
      );
  },
);
