import type {
  LinearInputGradientNode,
  LinearWeightGradientNode,
} from '../../../../program/gradient/linear.ts';
import { type HeadLayout, type LinearNode, padHead } from '../../../../program/ops/linear.ts';
import type { Parameter } from '../../../../program/program.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Features } from '../../kernels/kernel.ts';
import { type Lowering, type OpLowering, only, type Step } from '../../lowering.ts';
import {
  addRowSumsKernel,
  joinHeadsKernel,
  PACKED_ROWS,
  packColumnsKernel,
  packRowsKernel,
  TRANSPOSED_COLUMNS,
  transposeKernel,
} from '../kernels/layout.ts';
import { productKernel } from '../kernels/product.ts';
import { gradientOf, zerosOf } from '../weights.ts';

/** Cache that a block of rows of a may take in a product, in bytes. */
const ROW_BLOCK_BYTES = 192 * 1024;
/** Depth of one pass: a panel of b stays in the first cache level. */
const DEPTH = 512;

const align = (n: number, to = 64): number => Math.ceil(n / to) * to;
const columnsOf = (shape: readonly number[]): number => shape.at(-1)!;
const rowsOf = (shape: readonly number[]): number => elements(shape) / columnsOf(shape);

const kernels: OpLowering['kernels'] = {
  trainingProduct: only(productKernel),
  packRows: only(packRowsKernel),
  packColumns: only(packColumnsKernel),
  transposeRows: only(transposeKernel),
  addRowSums: only(addRowSumsKernel),
  joinHeads: only(joinHeadsKernel),
};

interface Operands {
  readonly a: number;
  readonly lda: number;
  /** Panels, and the bytes of one. */
  readonly b: number;
  readonly panelBytes: number;
  readonly depth: number;
  readonly rows: number;
  readonly columns: number;
  readonly c: number;
  readonly ldc: number;
  /** What c starts from: rows like c's, or null for zeros. */
  readonly start: number | null;
  readonly bias: number | null;
  readonly heads?: { readonly padded: number; readonly bytes: number };
}

/** `c = a · b + start + bias` as steps over parts of the depth. */
function product(lowering: Lowering, o: Operands): Step[] {
  const { panel } = lowering.features;
  const zeros = zerosOf(lowering);
  const panels = Math.ceil(o.columns / panel);
  const panelsPerUnit = Math.max(1, Math.ceil(panels / 8));
  const unitsPerBlock = Math.ceil(panels / panelsPerUnit);
  const passes = Math.max(1, Math.ceil(o.depth / DEPTH));
  return Array.from({ length: passes }, (_, i) => {
    const first = i * DEPTH;
    const depth = Math.min(DEPTH, o.depth - first) * 4;
    const rowsPerBlock = Math.min(
      o.rows,
      Math.max(24, Math.floor(ROW_BLOCK_BYTES / Math.max(depth, 1) / 24) * 24),
    );
    const start = i > 0 ? o.c : o.start;
    const bias = i > 0 ? null : o.bias;
    const fields = {
      a: o.a + first * 4,
      b: o.b + first * panel * 4,
      c: o.c,
      start: start ?? zeros,
      ldStart: start === null ? 0 : o.ldc,
      startStep: 0,
      bias: bias ?? zeros,
      biasStep: bias === null ? 0 : panel * 4,
      M: o.rows,
      depth,
      lda: o.lda,
      ldc: o.ldc,
      panels,
      panelBytes: o.panelBytes,
      lastColumns: o.columns - (panels - 1) * panel,
      panelsPerHead: o.heads ? o.heads.padded / panel : panels,
      headBytes: o.heads?.bytes ?? 0,
      rowsPerBlock,
      panelsPerUnit,
      unitsPerBlock,
    };
    return lowering.step('trainingProduct', fields, Math.ceil(o.rows / rowsPerBlock) * unitsPerBlock, 1);
  });
}

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

/** Bytes of the packed panels of `columns` columns. */
const packedBytes = (columns: number, depth: number, { panel }: Features): number =>
  align(Math.ceil(columns / panel) * align(depth, 4) * panel * 4);

const stackedRows = (parts: readonly Parameter[]): number => parts.reduce((n, { shape }) => n + shape[0], 0);

/** A product whose weights are packed anew at each run: what training changes between runs. */
export const unpackedLinearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels,
  keys: () => ['packRows', 'trainingProduct'],
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
  kernels,
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
    const panels = Math.ceil(K / features.panel);
    const panelBytes = depth * features.panel * 4;
    const joined = workspace + packedBytes(K, depth, features);
    const steps: Step[] = [];
    if (heads) {
      const { size, padded } = heads;
      const fields = { from: at(node.inputs[0]), to: joined, M: count, H: depth / size, size, pitch: padded };
      steps.push(step('joinHeads', { ...fields, M: rowsOf(shape(dx)) }, (rowsOf(shape(dx)) * depth) / size));
    }
    let row = 0;
    for (const w of node.parameters) {
      const fields = {
        from: weight(w),
        ld: K * 4,
        rows: w.shape[0],
        panels,
        to: workspace,
        first: row,
        panelBytes,
      };
      steps.push(step('packColumns', fields, Math.ceil(w.shape[0] / PACKED_ROWS)));
      row += w.shape[0];
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

/** How dy is laid out as columns: rows of the transposed, and bytes from one to the next. */
function transposedSize(dy: readonly number[], heads: HeadLayout | null, M: number) {
  const groups = heads ? dy[0] : 1;
  const perHead = align(heads ? heads.padded : columnsOf(dy), TRANSPOSED_COLUMNS);
  // Not a power of two: its rows would fall into the same lines of the cache.
  const ld = (align(Math.min(M, ROWS), 4) + 16) * 4;
  return { groups, perHead, ld, bytes: align((groups * perHead + TRANSPOSED_COLUMNS) * ld) };
}

export const linearWeightGradientLowering: OpLowering<LinearWeightGradientNode> = {
  kind: 'linearWeightGradient',
  kernels,
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
    const { groups, perHead, ld, bytes } = transposedSize(shape(dy), heads, M);
    const packed = workspace + bytes;
    const dyRow = columnsOf(shape(dy)) * 4;
    const panels = Math.ceil(K / features.panel);
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
      const unitsPerHead = Math.ceil((heads ? heads.padded : columnsOf(shape(dy))) / TRANSPOSED_COLUMNS);
      steps.push(
        lowering.step(
          'transposeRows',
          {
            from: at(dy) + m * dyRow,
            ld: dyRow,
            rows,
            to: workspace,
            ldTo: ld,
            unitsPerHead,
            headBytes: M * dyRow,
            headRows: perHead,
          },
          groups * unitsPerHead,
        ),
      );
      if (weights.length) {
        const panelBytes = rows * features.panel * 4;
        const fields = { from: at(x) + m * K * 4, ld: K * 4, rows, panels, to: packed, first: 0, panelBytes };
        steps.push(lowering.step('packColumns', fields, Math.ceil(rows / PACKED_ROWS)));
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
