import { dim, equalDims, formatShape } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import type { Heads } from './attention.ts';

export interface ProjectRowsAttributes {
  /** First head of the value that is read, and how many. */
  readonly from: number;
  readonly heads: number;
}
export type ProjectRowsNode = Node<'projectRows', ProjectRowsAttributes>;

export interface ProjectedRows {
  /** `[heads, B, r, D′]`. */
  readonly rows: Value;
  /** Rows of each sequence that can have seen a token, `[B]`: as `lengths` of attention they leave out the rest. */
  readonly counts: Value;
}

/**
 * Mixes the rows of each sequence by a stored matrix: `y[g, b] = E[s] · x[g, b]` over the first `lengths[b]` rows of
 * x `[…, B, N, D′]`, with E `[sets, r, Nmax]` and s = ⌊g · sets / heads⌋. Linformer, Wang et al. 2020, section 4.
 *
 * `counts[b]` is one more than the last row of E, in any set, with a coefficient other than 0 before column
 * `lengths[b]`: r for a dense E, fewer where the last rows of E belong to positions that this sequence does not have.
 * @throws `SHAPE_MISMATCH`, `CODEC_UNSUPPORTED`
 */
export function projectRows(
  t: Tracer,
  source: Heads,
  heads: number,
  matrix: Parameter,
  lengths: Value,
): ProjectedRows {
  const { value, from } = source;
  const held = value.shape[0]?.terms.get('') ?? 0;
  if (value.shape.length !== 4 || held < from + heads)
    throw shapeError(
      'projectRows',
      'rows of another shape',
      `at least ${from + heads} heads of [B, N, D′]`,
      formatShape(value.shape),
    );
  const [sets, r] = matrix.shape;
  if (matrix.shape.length !== 3 || heads % sets !== 0)
    throw shapeError(
      'projectRows',
      `matrix ${matrix.name} that does not fit its heads`,
      `[a divisor of ${heads}, r, Nmax]`,
      formatShape(matrix.shape),
    );
  if (lengths.shape.length !== 1 || !equalDims(lengths.shape[0], value.shape[1]))
    throw shapeError(
      'projectRows',
      'one length a sequence',
      formatShape([value.shape[1]]),
      formatShape(lengths.shape),
    );
  expectFloat('projectRows', matrix);
  const [, B, , pitch] = value.shape;
  const [rows, counts] = t.emit('projectRows', {
    inputs: [value, lengths],
    parameters: [matrix],
    outputs: [
      ['y', 'float32', [dim(heads), B, dim(r), pitch]],
      ['counts', 'int32', [B]],
    ],
    attributes: { from, heads } satisfies ProjectRowsAttributes,
    rowWise: false,
  });
  return { rows, counts };
}

export const projectRowsOp: OpDefinition<ProjectRowsNode> = {
  kind: 'projectRows',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds({ attributes, parameters: [matrix] }, { inputs: [[, B, N, pitch]] }) {
    return attributes.heads * B * matrix.shape[1] * N * pitch;
  },
  reference({ attributes: { from, heads } }, { inputs: [x, lengths], parameters: [matrix] }) {
    const [, B, N, pitch] = x.shape;
    const [sets, r, columns] = matrix.shape;
    if (N > columns)
      throw shapeError('projectRows', 'sequence longer than its matrix', `at most ${columns}`, `${N}`);
    const out = new Float64Array(heads * B * r * pitch);
    const counts = new Float64Array(B);
    for (let b = 0; b < B; b++) {
      const n = Math.max(0, Math.min(N, lengths.data[b]));
      for (let g = 0; g < heads; g++) {
        const set = Math.floor((g * sets) / heads);
        for (let j = 0; j < r; j++)
          for (let k = 0; k < n; k++) {
            const weight = matrix.data[(set * r + j) * columns + k];
            if (weight !== 0) counts[b] = Math.max(counts[b], j + 1);
            for (let d = 0; d < pitch; d++)
              out[((g * B + b) * r + j) * pitch + d] +=
                weight * x.data[(((from + g) * B + b) * N + k) * pitch + d];
          }
      }
    }
    return [out, counts];
  },
};
