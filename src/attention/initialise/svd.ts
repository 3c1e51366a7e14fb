import { Random } from '../../tensor/random.ts';
import { symmetricEigen } from './eigen.ts';

/** `A ≈ Uᵀ diag(values) V`: the rows of `left` `[k, rows]` and of `right` `[k, columns]` are the singular vectors. */
export interface TruncatedSvd {
  readonly values: Float64Array;
  readonly left: Float64Array;
  readonly right: Float64Array;
}

/** Vectors that are carried along beside the k wanted: they speed up the last ones. */
const OVERSAMPLING = 8;

/**
 * The k largest singular triplets of `matrix` `[rows, columns]` by subspace iteration from a seeded start (Halko,
 * Martinsson and Tropp 2011, algorithms 4.4 and 5.1), until no singular value moves by more than 1e-9 of the largest
 * or 100 rounds are over. k is cut to the smaller side.
 */
export function truncatedSvd(
  matrix: Float64Array,
  rows: number,
  columns: number,
  k: number,
  tolerance = 1e-9,
): TruncatedSvd {
  const most = Math.min(rows, columns);
  const wanted = Math.min(k, most);
  const width = Math.min(wanted + OVERSAMPLING, most);
  const random = new Random(width);
  const v = Float64Array.from({ length: width * columns }, () => random.gaussian()); // [width, columns]
  const u = new Float64Array(width * rows); // [width, rows]
  orthonormalise(v, width, columns);
  let before: Float64Array | null = null;
  for (let round = 0; round < 100; round++) {
    timesRows(matrix, rows, columns, v, width, u);
    orthonormalise(u, width, rows);
    timesColumns(matrix, rows, columns, u, width, v);
    const norms = Float64Array.from({ length: width }, (_, i) =>
      Math.sqrt(dot(v, i * columns, v, i * columns, columns)),
    );
    // Rows of v are A's rows seen by an orthonormal u: their norms tend to the singular values.
    const moved = before
      ? norms.reduce((m, x, i) => Math.max(m, i < wanted ? Math.abs(x - before![i]) : 0), 0)
      : Infinity;
    before = norms;
    if (moved <= tolerance * Math.max(...norms)) break;
    if (round < 99) orthonormalise(v, width, columns);
  }
  return rayleighRitz(u, v, rows, columns, width, wanted);
}

/** From orthonormal u and v = u A: turns both so that v vᵀ is diagonal. */
function rayleighRitz(
  u: Float64Array,
  v: Float64Array,
  rows: number,
  columns: number,
  width: number,
  wanted: number,
): TruncatedSvd {
  const gram = new Float64Array(width * width);
  for (let i = 0; i < width; i++)
    for (let j = 0; j <= i; j++)
      gram[i * width + j] = gram[j * width + i] = dot(v, i * columns, v, j * columns, columns);
  const { values: squares, vectors } = symmetricEigen(gram, width);
  const values = Float64Array.from(squares.subarray(0, wanted), (x) => Math.sqrt(Math.max(0, x)));
  const turned = (from: Float64Array, size: number): Float64Array => {
    const out = new Float64Array(wanted * size);
    for (let i = 0; i < wanted; i++)
      for (let j = 0; j < width; j++) add(out, i * size, vectors[i * width + j], from, j * size, size);
    return out;
  };
  const right = turned(v, columns);
  for (let i = 0; i < wanted; i++)
    for (let c = 0; c < columns; c++)
      right[i * columns + c] = values[i] > 0 ? right[i * columns + c] / values[i] : 0;
  return { values, left: turned(u, rows), right };
}

function dot(a: Float64Array, from: number, b: Float64Array, to: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[from + i] * b[to + i];
  return sum;
}

function add(
  y: Float64Array,
  to: number,
  factor: number,
  x: Float64Array,
  from: number,
  count: number,
): void {
  for (let i = 0; i < count; i++) y[to + i] += factor * x[from + i];
}

/** `out[i] = matrix · v[i]`, four vectors at a time so that a row of the matrix is read once for them. */
function timesRows(
  matrix: Float64Array,
  rows: number,
  columns: number,
  v: Float64Array,
  width: number,
  out: Float64Array,
): void {
  for (let i = 0; i < width; i += 4) {
    const at = [0, 1, 2, 3].map((d) => Math.min(i + d, width - 1));
    const [p, q, r, s] = at.map((j) => j * columns);
    for (let row = 0; row < rows; row++) {
      const from = row * columns;
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let k = 0; k < columns; k++) {
        const x = matrix[from + k];
        a += x * v[p + k];
        b += x * v[q + k];
        c += x * v[r + k];
        d += x * v[s + k];
      }
      out[at[0] * rows + row] = a;
      out[at[1] * rows + row] = b;
      out[at[2] * rows + row] = c;
      out[at[3] * rows + row] = d;
    }
  }
}

/** `out[i] = matrixᵀ · u[i]`. */
function timesColumns(
  matrix: Float64Array,
  rows: number,
  columns: number,
  u: Float64Array,
  width: number,
  out: Float64Array,
): void {
  out.fill(0);
  for (let i = 0; i < width; i++) {
    const to = i * columns;
    for (let row = 0; row + 4 <= rows; row += 4) {
      const [a, b, c, d] = [0, 1, 2, 3].map((r) => u[i * rows + row + r]);
      const [p, q, r, s] = [0, 1, 2, 3].map((e) => (row + e) * columns);
      for (let k = 0; k < columns; k++)
        out[to + k] += a * matrix[p + k] + b * matrix[q + k] + c * matrix[r + k] + d * matrix[s + k];
    }
    for (let row = rows & ~3; row < rows; row++)
      add(out, to, u[i * rows + row], matrix, row * columns, columns);
  }
}

/** Rows of `x` `[count, size]` → an orthonormal set, by modified Gram-Schmidt run twice. A row that depends on others is 0. */
export function orthonormalise(x: Float64Array, count: number, size: number): void {
  for (let i = 0; i < count; i++) {
    const length = Math.sqrt(dot(x, i * size, x, i * size, size));
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) add(x, i * size, -dot(x, j * size, x, i * size, size), x, j * size, size);
    const left = Math.sqrt(dot(x, i * size, x, i * size, size));
    const factor = left > 1e-12 * length ? 1 / left : 0;
    for (let k = 0; k < size; k++) x[i * size + k] *= factor;
  }
}
