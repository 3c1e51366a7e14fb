import type {
  LinearInputGradientNode,
  LinearWeightGradientNode,
} from '../../../../program/gradient/linear.ts';
import { type HeadLayout, type LinearNode, padHead } from '../../../../program/ops/linear.ts';
import type { Parameter } from '../../../../program/program.ts';
import { AttenuateError } from '../../../../tensor/error.ts';
import type { Lowering, OpLowering, Step } from '../../lowering.ts';
import { TRANSPOSED_COLUMNS } from '../kernels/layout.ts';
import { gradientOf, zerosOf } from '../weights.ts';
import {
  align,
  columnsOf,
  DEPTH,
  packColumnsStep,
  packedBytes,
  product,
  productKernels,
  rowsOf,
  transposedLd,
  transposeStep,
} from './product.ts';

/** Addresses of the rows, or biases, that are the columns of a product; where heads are padded, and past the last, zeros. */
function columnTable(
  lowering: Lowering,
  what: string,
  parts: readonly Parameter[],
  rowBytes: number,
  heads: HeadLayout | null,
): number {
  const { panel } = lowering.features;
  const zeros = zerosOf(lowering);
  const key = `${what}:${heads?.padded ?? 0}:${parts.map((p) => p.name).join()}`;
  return lowering.table(key, () => {
    const rows: number[] = [];
    for (const part of parts)
      for (let row = 0; row < part.shape[0]; row++) {
        rows.push(lowering.weight(part) + row * rowBytes);
        if (heads && row % heads.size === heads.size - 1)
          for (let i = heads.size; i < heads.padded; i++) rows.push(zeros);
      }
    while (rows.length % panel) rows.push(zeros);
    return Int32Array.from(rows);
  });
}

const paddedColumns = (rows: number, heads: HeadLayout | null): number =>
  heads ? (rows / heads.size) * heads.padded : rows;

const stackedRows = (parts: readonly Parameter[]): number => parts.reduce((n, { shape }) => n + shape[0], 0);

/** @throws `OP_UNSUPPORTED` for what only inference does inside a product */
function expectBare({ attributes: { activation, quantized } }: LinearNode): void {
  if (activation === 'none' && !quantized) return;
  throw new AttenuateError(
    'OP_UNSUPPORTED',
    `[train] product that does more than multiply: expected the Program of \`differentiate\` or its \`forwardPart\`, got ${quantized ? 'integer inputs' : `a fused ${activation}`}. Differentiate the traced Program first.`,
    { kind: 'linear', activation, quantized },
  );
}

/** A product whose weights are packed anew at each run: what training changes between runs. */
export const unpackedLinearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels: productKernels,
  keys(node) {
    expectBare(node);
    return ['packRows', 'trainingProduct'];
  },
  workspaceBytes({ parameters, attributes: { parts, heads } }, _shape, features) {
    const weights = parameters.slice(0, parts);
    const columns = paddedColumns(stackedRows(weights), heads);
    return packedBytes(columns, weights[0].shape[1], features) + align(columns + features.panel) * 4;
  },
  steps(node, lowering) {
    const { at, shape, step, first, count, features, workspace } = lowering;
    const { parts, heads, residual } = node.attributes;
    const weights = node.parameters.slice(0, parts);
    const [K, [y]] = [weights[0].shape[1], node.outputs];
    const columns = paddedColumns(stackedRows(weights), heads);
    const panels = Math.ceil(columns / features.panel);
    const panelBytes = align(K, 4) * features.panel * 4;
    const bias = workspace + packedBytes(columns, K, features);
    const ldc = columnsOf(shape(y)) * 4;
    const rows = rowsOf(shape(node.inputs[0]));
    return [
      step(
        'packRows',
        {
          base: 0,
          rows: columnTable(lowering, 'rows', weights, K * 4, heads),
          biases: columnTable(lowering, 'biases', node.parameters.slice(parts), 4, heads),
          to: workspace,
          bias,
          K,
          panelBytes,
        },
        panels,
      ),
      ...product(lowering, {
        a: at(node.inputs[0], first, K * 4),
        lda: K * 4,
        b: workspace,
        panelBytes,
        depth: K,
        rows: count,
        columns,
        c: at(y, first, ldc),
        ldc,
        start: residual ? at(node.inputs[1], first, ldc) : null,
        bias,
        heads: heads ? { padded: padHead(heads.size), bytes: rows * ldc } : undefined,
      }),
    ];
  },
};

export const linearInputGradientLowering: OpLowering<LinearInputGradientNode> = {
  kind: 'linearInputGradient',
  kernels: productKernels,
  keys: ({ attributes: { heads } }) => ['packColumns', 'trainingProduct', ...(heads ? ['joinHeads'] : [])],
  workspaceBytes({ parameters, outputs: [dx], attributes: { heads } }, shape, features) {
    const [M, K] = [rowsOf(shape(dx)), columnsOf(shape(dx))];
    const columns = stackedRows(parameters);
    return packedBytes(K, columns, features) + (heads ? align(M * columns * 4) : 0);
  },
  steps(node, lowering) {
    const { at, shape, step, first, count, features, workspace, weight } = lowering;
    const { heads, added } = node.attributes;
    const [dx] = node.outputs;
    const K = columnsOf(shape(dx));
    const depth = stackedRows(node.parameters);
    const panelBytes = depth * features.panel * 4;
    const joined = workspace + packedBytes(K, depth, features);
    const steps: Step[] = [];
    if (heads) {
      const { size, padded } = heads;
      const fields = { from: at(node.inputs[0]), to: joined, M: count, H: depth / size, size, pitch: padded };
      steps.push(step('joinHeads', { ...fields, M: rowsOf(shape(dx)) }, (rowsOf(shape(dx)) * depth) / size));
    }
    let depthSoFar = 0;
    for (const w of node.parameters) {
      const matrix = { from: weight(w), ld: K * 4, rows: w.shape[0], columns: K };
      steps.push(packColumnsStep(lowering, matrix, { to: workspace, first: depthSoFar, panelBytes }));
      depthSoFar += w.shape[0];
    }
    return [
      ...steps,
      ...product(lowering, {
        a: heads ? joined : at(node.inputs[0], first, depth * 4),
        lda: depth * 4,
        b: workspace,
        panelBytes,
        depth,
        rows: heads ? rowsOf(shape(dx)) : count,
        columns: K,
        c: at(dx, first, K * 4),
        ldc: K * 4,
        start: added ? at(node.inputs[1], first, K * 4) : null,
        bias: null,
      }),
    ];
  },
};

/** Rows of dy and x that are laid out at a time. */
const ROWS = DEPTH;

/** How dy's columns become rows: groups of them, rows that one takes, and bytes of all. */
function transposedSize(dy: readonly number[], heads: HeadLayout | null, M: number) {
  const groups = heads ? dy[0] : 1;
  const perHead = align(heads ? heads.padded : columnsOf(dy), TRANSPOSED_COLUMNS);
  const ld = transposedLd(Math.min(M, ROWS));
  return { groups, perHead, bytes: align((groups * perHead + TRANSPOSED_COLUMNS) * ld) };
}

export const linearWeightGradientLowering: OpLowering<LinearWeightGradientNode> = {
  kind: 'linearWeightGradient',
  kernels: productKernels,
  keys: () => ['transposeRows', 'packColumns', 'trainingProduct', 'addRowSums'],
  workspaceBytes({ inputs: [dy, x], attributes: { heads } }, shape, features) {
    const M = rowsOf(shape(x));
    return (
      transposedSize(shape(dy), heads, M).bytes +
      packedBytes(columnsOf(shape(x)), Math.min(M, ROWS), features)
    );
  },
  steps(node, lowering) {
    const { at, shape, features, workspace } = lowering;
    const { heads, weights, biases } = node.attributes;
    const [dy, x] = node.inputs;
    const [M, K] = [rowsOf(shape(x)), columnsOf(shape(x))];
    const { groups, perHead, bytes } = transposedSize(shape(dy), heads, M);
    const packed = workspace + bytes;
    const dyRow = columnsOf(shape(dy)) * 4;
    /** Row of the transposed that holds column `column` of dy. */
    const rowOf = (column: number) =>
      heads ? Math.floor(column / heads.size) * perHead + (column % heads.size) : column;
    /** Runs of columns that are runs of rows. */
    const runs = ({ first, rows }: { first: number; rows: number }) => {
      const length = heads && heads.size !== perHead ? heads.size : rows;
      return Array.from({ length: rows / length }, (_, i) => ({ column: first + i * length, rows: length }));
    };
    const gradient = (i: number) => gradientOf(lowering, node.gradients![i]);
    const steps: Step[] = [];
    for (let m = 0; m < M; m += ROWS) {
      const rows = Math.min(ROWS, M - m);
      const columns = heads ? heads.padded : columnsOf(shape(dy));
      steps.push(
        transposeStep(lowering, { from: at(dy) + m * dyRow, ld: dyRow, rows, columns }, workspace, {
          count: groups,
          bytes: M * dyRow,
          rows: perHead,
        }),
      );
      const ld = transposedLd(rows);
      if (weights.length) {
        const panelBytes = rows * features.panel * 4;
        const matrix = { from: at(x) + m * K * 4, ld: K * 4, rows, columns: K };
        steps.push(packColumnsStep(lowering, matrix, { to: packed, first: 0, panelBytes }));
        weights.forEach((piece, i) => {
          for (const run of runs(piece)) {
            const c = gradient(i) + (run.column - piece.first) * K * 4;
            steps.push(
              ...product(lowering, {
                a: workspace + rowOf(run.column) * ld,
                lda: ld,
                b: packed,
                panelBytes,
                depth: rows,
                rows: run.rows,
                columns: K,
                c,
                ldc: K * 4,
                start: c,
                bias: null,
              }),
            );
          }
        });
      }
      biases.forEach((piece, i) => {
        for (const run of runs(piece)) {
          const sums = gradient(weights.length + i) + (run.column - piece.first) * 4;
          const fields = { rows: workspace + rowOf(run.column) * ld, ld, count: rows, sums };
          steps.push(lowering.step('addRowSums', fields, run.rows));
        }
      });
    }
    return steps;
  },
};
