/** Rows of a product's input that its error is taken on. */
const ROWS = 64;

/**
 * How much a product's output changes with its weight: ‖X (Ŵ − W)ᵀ‖² / ‖X Wᵀ‖², without the bias.
 * @param inputs rows of x, `[n, columns]`; the first 64 are used
 * @param exact W, `[rows, columns]`
 * @param rounded Ŵ
 */
export function productError(
  inputs: Float32Array,
  columns: number,
  exact: Float32Array,
  rounded: Float32Array,
): number {
  const end = Math.min(ROWS * columns, inputs.length);
  const [w, apart] = [new Float64Array(columns), new Float64Array(columns)];
  let [error, norm] = [0, 0];
  for (let row = 0; row < exact.length; row += columns) {
    for (let k = 0; k < columns; k++) {
      w[k] = exact[row + k];
      apart[k] = rounded[row + k] - w[k];
    }
    for (let x = 0; x < end; x += columns) {
      let [moved, size] = [0, 0];
      for (let k = 0; k < columns; k++) {
        moved += inputs[x + k] * apart[k];
        size += inputs[x + k] * w[k];
      }
      error += moved * moved;
      norm += size * size;
    }
  }
  return norm > 0 ? error / norm : 0;
}

/**
 * How much the rows of a table change, each as often as it is looked up: Σ‖t̂ − t‖² / Σ‖t‖².
 * @param uses how often each row is looked up
 */
export function tableError(
  uses: ReadonlyMap<number, number>,
  columns: number,
  exact: Float32Array,
  rounded: Float32Array,
): number {
  let [error, norm] = [0, 0];
  for (const [row, count] of uses)
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      error += count * (rounded[i] - exact[i]) ** 2;
      norm += count * exact[i] ** 2;
    }
  return norm > 0 ? error / norm : 0;
}
