import type { LinearNode } from '../../program/ops/linear.ts';
import { quantizedPitch } from '../../program/ops/quantize-rows.ts';
import type { Parameter, Program } from '../../program/program.ts';
import { byteSize, columnsOf, elements, isFloat, rowsOf } from '../../tensor/codec.ts';
import type { Features } from './kernels/kernel.ts';

/** Where the panels of one product lie, and how a weight's rows map to its columns. */
export interface PackedLinear {
  readonly id: string;
  readonly w: number;
  readonly scales: number;
  readonly corrections: number;
  readonly bias: number;
  readonly K: number;
  readonly quantized: boolean;
  /** Columns with the padding of heads, and of the last panel. */
  readonly columns: number;
  readonly panels: number;
  readonly panelBytes: number;
  readonly columnOf: (part: number, row: number) => number;
  /** Rows from `row` on that map to neighbouring columns. */
  readonly runOf: (part: number, row: number) => number;
}

export interface WeightMap {
  readonly linears: ReadonlyMap<string, PackedLinear>;
  /** Addresses of tables and vectors that are not packed. */
  readonly raw: ReadonlyMap<string, number>;
  /** Those of them that stand as floats and not as they are stored: 16-bit ones that no embedding looks up. */
  readonly widened: ReadonlySet<string>;
  /** For each weight: where it goes as a matrix, as a bias, as it is. */
  readonly matrices: ReadonlyMap<string, readonly { linear: PackedLinear; part: number }[]>;
  readonly biases: ReadonlyMap<string, readonly { linear: PackedLinear; part: number; rows: number }[]>;
  readonly end: number;
}

const align = (n: number): number => (n + 63) & ~63;

export const linearId = (node: LinearNode): string =>
  `${node.parameters.map((p) => p.name).join()}|${node.attributes.heads?.padded ?? 0}`;

/** How a weight of an op that is no embedding stands in memory: 16-bit floats are widened as they are loaded. */
export const storedCodec = (p: Parameter): 'float32' | 'int8' => (p.codec === 'int8' ? 'int8' : 'float32');

/** Gives every weight of a Program its place, from `base` on: exact, from names and shapes alone. */
export function placeWeights(program: Program, features: Features, base: number): WeightMap {
  const linears = new Map<string, PackedLinear>();
  const raw = new Map<string, number>();
  const widened = new Set<string>();
  const matrices = new Map<string, { linear: PackedLinear; part: number }[]>();
  const biases = new Map<string, { linear: PackedLinear; part: number; rows: number }[]>();
  let end = align(base);
  const take = (bytes: number): number => {
    const at = end;
    end = align(end + bytes);
    return at;
  };
  for (const node of program.nodes) {
    if (node.kind !== 'linear') {
      for (const p of node.parameters) {
        if (raw.has(p.name)) continue;
        const widen = node.kind !== 'embedding' && isFloat(p.codec) && p.codec !== 'float32';
        if (widen) widened.add(p.name);
        raw.set(p.name, take(widen ? elements(p.shape) * 4 : byteSize(p)));
      }
      continue;
    }
    const linear = node as LinearNode;
    const id = linearId(linear);
    if (linears.has(id)) continue;
    const packed = packedLinear(linear, id, features, take);
    linears.set(id, packed);
    linear.parameters.forEach((p, i) => {
      const { parts } = linear.attributes;
      if (i < parts) matrices.set(p.name, [...(matrices.get(p.name) ?? []), { linear: packed, part: i }]);
      else
        biases.set(p.name, [
          ...(biases.get(p.name) ?? []),
          { linear: packed, part: i - parts, rows: p.shape[0] },
        ]);
    });
  }
  return { linears, raw, widened, matrices, biases, end };
}

function packedLinear(
  node: LinearNode,
  id: string,
  { panel }: Features,
  take: (bytes: number) => number,
): PackedLinear {
  const { heads, parts, quantized } = node.attributes;
  const weights = node.parameters.slice(0, parts);
  const first = weights.map((_, i) => weights.slice(0, i).reduce((n, w) => n + rowsOf(w.shape), 0));
  const rows = weights.reduce((n, w) => n + rowsOf(w.shape), 0);
  const columns = heads ? (rows / heads.size) * heads.padded : rows;
  const panels = Math.ceil(columns / panel);
  const K = quantized ? quantizedPitch(columnsOf(weights[0].shape)) : columnsOf(weights[0].shape);
  const panelBytes = K * panel * (quantized ? 1 : 4);
  const vector = panels * panel * 4;
  return {
    id,
    K,
    quantized,
    columns,
    panels,
    panelBytes,
    w: take(panels * panelBytes),
    bias: take(vector),
    scales: quantized ? take(vector) : 0,
    corrections: quantized ? take(vector) : 0,
    columnOf: (part, row) =>
      heads
        ? ((first[part] + row - (row % heads.size)) / heads.size) * heads.padded + (row % heads.size)
        : first[part] + row,
    runOf: (part, row) =>
      heads && heads.padded !== heads.size ? heads.size - (row % heads.size) : weights[part].shape[0] - row,
  };
}
