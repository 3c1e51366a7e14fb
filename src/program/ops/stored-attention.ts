import { dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import type { Heads } from './attention.ts';
import { padHead } from './linear.ts';

export interface StoredAttentionAttributes {
  readonly heads: number;
  /** Columns of a value row. */
  readonly headSize: number;
  /** First head of the values. */
  readonly from: number;
}
export type StoredAttentionNode = Node<'storedAttention', StoredAttentionAttributes>;

/** A row whose weights sum to less than this has no weight at all: it gives 0. */
export const LEAST_SUM = 1e-37;

/**
 * Attention whose weights are stored: row q of head h is `Σ R[h, q, k]² · V[h, k] / Σ R[h, q, k]²` over the keys
 * k < `lengths[b]`. R `[H, Nmax, Nmax]` holds the square roots of weights that need not be normalised: whatever the
 * bytes, no weight is negative, and int8 reaches from 1 to 127⁻² of a row's largest (its row scales cancel). Values
 * by head `[heads, B, N, D′]`; gives `[B, N, H·D]`. A row without a key of weight is 0.
 * Synthesizer, Tay et al. 2021, section 3.3.
 * @throws `SHAPE_MISMATCH`
 */
export function storedAttention(
  t: Tracer,
  roots: Parameter,
  values: Heads,
  lengths: Value,
  { heads, headSize }: { readonly heads: number; readonly headSize: number },
): Value {
  const { value, from } = values;
  const held = value.shape[0]?.terms.get('') ?? 0;
  if (
    value.shape.length !== 4 ||
    held < from + heads ||
    !equalDims(value.shape[3], padHead(headSize)) ||
    lengths.shape.length !== 1
  )
    throw shapeError(
      'storedAttention',
      'values of another shape',
      `at least ${from + heads} heads of rows of ${padHead(headSize)} columns, and lengths [B]`,
      `${formatShape(value.shape)} and ${formatShape(lengths.shape)}`,
    );
  const [H, rows, columns] = roots.shape;
  if (roots.shape.length !== 3 || H !== heads || rows !== columns)
    throw shapeError(
      'storedAttention',
      `weights ${roots.name} that do not fit`,
      `[${heads}, Nmax, Nmax]`,
      formatShape(roots.shape),
    );
  const [, B, N] = value.shape;
  return t.emit('storedAttention', {
    inputs: [value, lengths],
    parameters: [roots],
    outputs: [['o', 'float32', [B, N, dim(heads * headSize)]]],
    attributes: { heads, headSize, from } satisfies StoredAttentionAttributes,
    rowWise: false,
  })[0];
}

export const storedAttentionOp: OpDefinition<StoredAttentionNode> = {
  kind: 'storedAttention',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds: ({ attributes: { heads, headSize } }, { inputs: [[, B, N]] }) => B * heads * N * N * headSize,
  reference({ attributes: { heads: H, headSize: D, from } }, { inputs: [v, lengths], parameters: [roots] }) {
    const [, B, N, pitch] = v.shape;
    const most = roots.shape[1];
    if (N > most)
      throw shapeError('storedAttention', 'sequence longer than its weights', `at most ${most}`, `${N}`);
    const out = new Float64Array(B * N * H * D);
    for (let b = 0; b < B; b++) {
      const n = Math.max(0, Math.min(N, lengths.data[b]));
      for (let h = 0; h < H; h++)
        for (let q = 0; q < N; q++) {
          const first = (h * most + q) * most;
          const row = roots.data.subarray(first, first + n).map((x) => x * x);
          const sum = row.reduce((a, p) => a + p, 0);
          if (sum < LEAST_SUM) continue;
          const to = ((b * N + q) * H + h) * D;
          for (let k = 0; k < n; k++) {
            const at = (((from + h) * B + b) * N + k) * pitch;
            for (let d = 0; d < D; d++) out[to + d] += (row[k] / sum) * v.data[at + d];
          }
        }
    }
    return [out];
  },
};
