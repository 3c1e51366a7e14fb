import { type Dim, dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { padHead } from './linear.ts';

/**
 * Which columns turn together: `halves` i and i + D/2 (GPT-NeoX, ModernBERT, Llama in the Hugging Face library),
 * `pairs` 2i and 2i + 1 (as the paper writes it; GPT-J). A model has to keep the one it was trained with.
 */
export type RotaryLayout = 'halves' | 'pairs';
export const ROTARY_LAYOUTS = ['halves', 'pairs'] as const satisfies readonly RotaryLayout[];

export interface RotaryAttributes {
  /** Heads that are turned: the first ones. */
  readonly count: number;
  /** Columns of a head, D. */
  readonly size: number;
  readonly base: number;
  readonly layout: RotaryLayout;
}
export type RotaryNode = Node<'rotary', RotaryAttributes>;

/**
 * Rotary position embedding (RoFormer, Su et al. 2021, section 3.2.2): the i-th pair of columns of the row at position
 * n turns by n · base^(−2i/D), so that q·k depends on the distance alone. `[heads, B, N, D′]` → the first `count`
 * heads, `[count, B, N, D′]`; D′ = D padded to 8 by zeros.
 * @throws `SHAPE_MISMATCH` for an odd D, or for rows of another shape
 */
export function rotary(
  t: Tracer,
  x: Value,
  {
    count,
    size,
    base = 10_000,
    layout = 'halves',
  }: Partial<RotaryAttributes> & { count: number; size: number },
): Value {
  const [heads, B, N, pitch] = x.shape;
  if (size % 2 !== 0) throw shapeError('rotary', 'columns that do not pair', 'an even head size', `${size}`);
  const held = heads?.terms.get('') ?? 0;
  if (x.shape.length !== 4 || !equalDims(pitch, dim(padHead(size))) || !(count >= 1 && held >= count))
    throw shapeError(
      'rotary',
      'rows of another shape',
      `at least ${count} heads of rows of ${padHead(size)} columns`,
      formatShape(x.shape),
    );
  const shape: Dim[] = [dim(count), B, N, pitch];
  return t.emit('rotary', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', shape]],
    attributes: { count, size, base, layout } satisfies RotaryAttributes,
    rowWise: false,
  })[0];
}

/** Angle of the i-th pair of columns at position 1. */
export const rotaryAngle = (i: number, { size, base }: Pick<RotaryAttributes, 'size' | 'base'>): number =>
  base ** ((-2 * i) / size);

export const rotaryOp: OpDefinition<RotaryNode> = {
  kind: 'rotary',
  budget: { absolute: 1e-6, relative: 1e-6 },
  /** Two for each column. */
  multiplyAdds: ({ attributes: { count, size } }, { inputs: [[, B, N]] }) => 2 * count * B * N * size,
  reference({ attributes }, { inputs: [{ data, shape }], outputShapes: [[count, B, N, pitch]] }) {
    const { size, layout } = attributes;
    const out = new Float64Array(count * B * N * pitch);
    const half = size / 2;
    for (let row = 0; row < count * B * shape[2]; row++)
      for (let i = 0; i < half; i++) {
        const angle = (row % N) * rotaryAngle(i, attributes);
        const [a, b] = layout === 'halves' ? [i, i + half] : [2 * i, 2 * i + 1];
        const [x, y] = [data[row * pitch + a], data[row * pitch + b]];
        out[row * pitch + a] = x * Math.cos(angle) - y * Math.sin(angle);
        out[row * pitch + b] = y * Math.cos(angle) + x * Math.sin(angle);
      }
    return [out];
  },
};
