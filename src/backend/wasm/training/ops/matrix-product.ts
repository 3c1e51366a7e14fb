import type { MatrixProductNode } from '../../../../program/gradient/matrix-product.ts';
import type { OpLowering } from '../../lowering.ts';
import { TRANSPOSED_COLUMNS } from '../kernels/layout.ts';
import {
  align,
  packColumnsStep,
  packedBytes,
  packRowsStep,
  product,
  productKernels,
  transposedLd,
  transposeStep,
} from './product.ts';

/** Rows of the transposed first operand, in bytes. */
const transposedBytes = (K: number, P: number): number =>
  align(align(P, TRANSPOSED_COLUMNS) * transposedLd(K));

export const matrixProductLowering: OpLowering<MatrixProductNode> = {
  kind: 'matrixProduct',
  kernels: productKernels,
  keys: () => ['packRows', 'packColumns', 'transposeRows', 'trainingProduct'],
  workspaceBytes({ inputs: [a], outputs: [y], attributes: { form } }, shape, features) {
    const [P, Q] = shape(y);
    const K = shape(a)[form === 'aᵀ·b' ? 0 : 1];
    return packedBytes(Q, K, features) + (form === 'aᵀ·b' ? transposedBytes(K, P) : 0);
  },
  steps({ inputs: [a, b], outputs: [y], attributes: { form } }, lowering) {
    const { at, shape, features, workspace } = lowering;
    const [P, Q] = shape(y);
    const K = shape(a)[form === 'aᵀ·b' ? 0 : 1];
    const operands = { depth: K, rows: P, columns: Q, c: at(y), ldc: Q * 4, start: null, bias: null };
    if (form === 'a·bᵀ') {
      const { step, panelBytes } = packRowsStep(lowering, { from: at(b), rows: Q, K, to: workspace });
      return [step, ...product(lowering, { ...operands, a: at(a), lda: K * 4, b: workspace, panelBytes })];
    }
    const panelBytes = K * features.panel * 4;
    const matrix = { from: at(b), ld: Q * 4, rows: K, columns: Q };
    const packed = packColumnsStep(lowering, matrix, { to: workspace, first: 0, panelBytes });
    const right = { ...operands, b: workspace, panelBytes };
    if (form === 'a·b') return [packed, ...product(lowering, { ...right, a: at(a), lda: K * 4 })];
    const rows = workspace + packedBytes(Q, K, features);
    return [
      packed,
      transposeStep(lowering, { from: at(a), ld: P * 4, rows: K, columns: P }, rows),
      ...product(lowering, { ...right, a: rows, lda: transposedLd(K) }),
    ];
  },
};
