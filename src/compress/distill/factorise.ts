import { symmetricEigen } from '../../attention/initialise/eigen.ts';

/** A table `[V, C]` as the product of a narrow one `[V, E]` and a projection `[C, E]`: row ≈ projection · narrow row. */
export interface FactorisedTable {
  readonly table: Float32Array;
  readonly projection: Float32Array;
  /** Share of the weighted squares that is lost. */
  readonly lost: number;
}

/**
 * The best factorisation of width E by weighted squares: rows are projected on the E leading eigenvectors of
 * Σ weight · row rowᵀ (Eckart and Young 1936), so that a token counts as often as it occurs.
 * @param weights of each row, not negative
 */
export function factoriseTable(
  table: Float32Array,
  columns: number,
  width: number,
  weights: ArrayLike<number>,
): FactorisedTable {
  const rows = table.length / columns;
  const gram = new Float64Array(columns * columns);
  for (let r = 0; r < rows; r++) {
    const weight = weights[r];
    if (weight === 0) continue;
    const row = table.subarray(r * columns, (r + 1) * columns);
    for (let i = 0; i < columns; i++) {
      const x = weight * row[i];
      for (let j = 0; j <= i; j++) gram[i * columns + j] += x * row[j];
    }
  }
  for (let i = 0; i < columns; i++)
    for (let j = i + 1; j < columns; j++) gram[i * columns + j] = gram[j * columns + i];
  const { values, vectors } = symmetricEigen(gram, columns);
  const total = values.reduce((sum, v) => sum + v, 0);
  const kept = values.subarray(0, width).reduce((sum, v) => sum + v, 0);
  const projection = new Float32Array(columns * width);
  for (let c = 0; c < columns; c++)
    for (let e = 0; e < width; e++) projection[c * width + e] = vectors[e * columns + c];
  return {
    table: timesProjection(table, columns, projection, width),
    projection,
    lost: total > 0 ? 1 - kept / total : 0,
  };
}

/** Rows `[R, C]` in the coordinates of a projection with orthonormal columns: `[R, E]`. */
export function timesProjection(
  table: Float32Array,
  columns: number,
  projection: Float32Array,
  width: number,
): Float32Array {
  const rows = table.length / columns;
  const out = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const x = table[r * columns + c];
      for (let e = 0; e < width; e++) out[r * width + e] += x * projection[c * width + e];
    }
  return out;
}
