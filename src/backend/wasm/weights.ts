import type { LinearNode } from '../../program/ops/linear.ts';
import type { Parameter, Program } from '../../program/program.ts';
import { byteSize, elements, isFloat, rowsOf } from '../../tensor/codec.ts';
import type { Features } from './kernels/kernel.ts';
import { type PanelLayout, panelLayout } from './panels.ts';

/** Neighbouring parts of one product that are stored alike: where their panels lie, and how rows map to columns. */
export interface PackedLinear extends PanelLayout {
  readonly w: number;
  readonly scales: number;
  readonly corrections: number;
  readonly bias: number;
  /** Its first column in the product's output, where heads are padded. */
  readonly firstColumn: number;
  /** Columns with the padding of heads, and of the last panel. */
  readonly columns: number;
  readonly panels: number;
  /** Column of row `row` of part `part` of the product, counted from `firstColumn`. */
  readonly columnOf: (part: number, row: number) => number;
  /** Rows from `row` on that map to neighbouring columns. */
  readonly runOf: (part: number, row: number) => number;
}

export interface WeightMap {
  readonly linears: ReadonlyMap<string, readonly PackedLinear[]>;
  /** Addresses of tables and vectors that are not packed. */
  readonly raw: ReadonlyMap<string, number>;
  /** Those of them that stand as floats and not as they are stored: 16-bit ones that no embedding looks up. */
  readonly widened: ReadonlySet<string>;
  /** For each weight: where it goes as a matrix, as a bias, as it is. */
  readonly matrices: ReadonlyMap<string, readonly { linear: PackedLinear; part: number }[]>;
  readonly biases: ReadonlyMap<string, readonly { linear: PackedLinear; part: number }[]>;
  readonly end: number;
}

const align = (n: number): number => (n + 63) & ~63;

export const linearId = (node: LinearNode): string =>
  `${node.parameters.map((p) => p.name).join()}|${node.attributes.heads?.padded ?? 0}`;

/** How a weight of an op that is no embedding stands in memory: 16-bit floats are widened as they are loaded. */
export const storedCodec = (p: Parameter): 'float32' | 'int8' => (p.codec === 'int8' ? 'int8' : 'float32');

/** Gives every weight of a Program its place, from `base` on: exact, from names and shapes alone. */
export function placeWeights(program: Program, features: Features, base: number): WeightMap {
  const linears = new Map<string, PackedLinear[]>();
  const raw = new Map<string, number>();
  const widened = new Set<string>();
  const matrices = new Map<string, { linear: PackedLinear; part: number }[]>();
  const biases = new Map<string, { linear: PackedLinear; part: number }[]>();
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
    const { parts } = linear.attributes;
    const segments = packedLinears(linear, features, take);
    linears.set(
      id,
      segments.map(({ packed }) => packed),
    );
    for (const { packed, from, to } of segments)
      for (let part = from; part < to; part++) {
        const [weight, bias] = [linear.parameters[part], linear.parameters[parts + part]];
        matrices.set(weight.name, [...(matrices.get(weight.name) ?? []), { linear: packed, part }]);
        biases.set(bias.name, [...(biases.get(bias.name) ?? []), { linear: packed, part }]);
      }
  }
  return { linears, raw, widened, matrices, biases, end };
}

/** Runs of parts that are stored alike, from part `from` up to `to`. */
function packedLinears(
  node: LinearNode,
  features: Features,
  take: (bytes: number) => number,
): { packed: PackedLinear; from: number; to: number }[] {
  const { heads, parts } = node.attributes;
  const weights = node.parameters.slice(0, parts);
  const first = [0];
  for (const { shape } of weights) first.push(first.at(-1)! + rowsOf(shape));
  const layouts = weights.map((w) => panelLayout(w, node.attributes, features));
  const padded = (row: number) => (heads ? (row / heads.size) * heads.padded : row);
  const out: { packed: PackedLinear; from: number; to: number }[] = [];
  for (let from = 0, to = 1; from < parts; from = to, to++) {
    const layout = layouts[from];
    while (to < parts && sameLayout(layouts[to], layout)) to++;
    const columns = padded(first[to] - first[from]);
    const panels = Math.ceil(columns / layout.width);
    const vector = panels * layout.width * 4;
    const packed = {
      ...layout,
      firstColumn: padded(first[from]),
      columns,
      panels,
      w: take(panels * layout.panelBytes),
      bias: take(vector),
      scales: layout.family === 'int8' ? take(vector) : 0,
      corrections: isFloat(weights[from].codec) ? 0 : take(vector),
      columnOf: (part: number, row: number) => {
        const at = first[part] - first[from] + row;
        return heads ? padded(at - (at % heads.size)) + (at % heads.size) : at;
      },
      runOf: (part: number, row: number) =>
        heads && heads.padded !== heads.size ? heads.size - (row % heads.size) : weights[part].shape[0] - row,
    };
    out.push({ packed, from, to });
  }
  return out;
}

const sameLayout = (a: PanelLayout, b: PanelLayout): boolean =>
  a.family === b.family && a.group === b.group && a.packers.values === b.packers.values;
