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
import { zerosOf } from '../weights.ts';

/** Cache that a block of rows of a may take in a product, in bytes. */
const ROW_BLOCK_BYTES = 192 * 1024;
/** Depth of one pass: a panel of b stays in the first cache level. */
export const DEPTH = 512;

export const align = (n: number, to = 64): number => Math.ceil(n / to) * to;
export const columnsOf = (shape: readonly number[]): number => shape.at(-1)!;
export const rowsOf = (shape: readonly number[]): number => elements(shape) / columnsOf(shape);

/** Kernels of the products and of what lays out their operands. */
export const productKernels: OpLowering['kernels'] = {
  trainingProduct: only(productKernel),
  packRows: only(packRowsKernel),
  packColumns: only(packColumnsKernel),
  transposeRows: only(transposeKernel),
  addRowSums: only(addRowSumsKernel),
  joinHeads: only(joinHeadsKernel),
};

export interface Operands {
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
export function product(lowering: Lowering, o: Operands): Step[] {
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

/** Bytes of the packed panels of `columns` columns. */
export const packedBytes = (columns: number, depth: number, { panel }: Features): number =>
  align(Math.ceil(columns / panel) * align(depth, 4) * panel * 4);

/** Rows of a matrix, `ld` bytes apart, as the panels of a product's columns (its transposed): address and bytes of one. */
export function packRowsStep(
  lowering: Lowering,
  { from, rows, K, to }: { from: number; rows: number; K: number; to: number },
): { step: Step; panelBytes: number } {
  const { panel } = lowering.features;
  // What stands past the last row is never used: any row will do.
  const table = lowering.table(`offsets:${rows}:${K}:${panel}`, () =>
    Int32Array.from({ length: align(rows, panel) }, (_, i) => (i < rows ? i * K * 4 : 0)),
  );
  const panelBytes = align(K, 4) * panel * 4;
  const fields = { base: from, rows: table, biases: 0, to, bias: 0, K, panelBytes };
  return { step: lowering.step('packRows', fields, Math.ceil(rows / panel)), panelBytes };
}

export interface Matrix {
  readonly from: number;
  /** Bytes from one row to the next. */
  readonly ld: number;
  readonly rows: number;
  readonly columns: number;
}

/** A matrix as panels of its columns, its rows at depths from `first` on. */
export const packColumnsStep = (
  lowering: Lowering,
  { from, ld, rows, columns }: Matrix,
  { to, first, panelBytes }: { to: number; first: number; panelBytes: number },
): Step =>
  lowering.step(
    'packColumns',
    { from, ld, rows, panels: Math.ceil(columns / lowering.features.panel), to, first, panelBytes },
    Math.ceil(rows / PACKED_ROWS),
  );

/** Bytes from one row of a transposed matrix to the next: never a power of two, whose rows would share lines of cache. */
export const transposedLd = (rows: number): number => (align(rows, 4) + 16) * 4;

/** A matrix with rows and columns exchanged; by head where `heads` says how its columns lie. */
export function transposeStep(
  lowering: Lowering,
  { from, ld, rows, columns }: Matrix,
  to: number,
  heads: { readonly count: number; readonly bytes: number; readonly rows: number } = {
    count: 1,
    bytes: 0,
    rows: 0,
  },
): Step {
  const unitsPerHead = Math.ceil(columns / TRANSPOSED_COLUMNS);
  const fields = {
    from,
    ld,
    rows,
    to,
    ldTo: transposedLd(rows),
    unitsPerHead,
    headBytes: heads.bytes,
    headRows: heads.rows,
  };
  return lowering.step('transposeRows', fields, heads.count * unitsPerHead);
}
