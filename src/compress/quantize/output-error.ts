/**
 * Mean over tokens of ‖(W − Ŵ) x‖² as a part of that of ‖W x‖²: how much of a product's output is lost, by the second
 * moments of its inputs.
 * @param moments `[columns, columns]`
 * @returns both means; 0 and 0 for a product that gives 0
 */
export function outputError(
  exact: Float32Array,
  rounded: Float32Array,
  moments: Float32Array,
  columns: number,
): { error: number; power: number } {
  const rows = exact.length / columns;
  const [apart, row, one, two] = [0, 0, 0, 0].map(() => new Float64Array(columns));
  let [error, power] = [0, 0];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      row[c] = exact[r * columns + c];
      apart[c] = row[c] - rounded[r * columns + c];
    }
    product(moments, apart, row, one, two);
    for (let c = 0; c < columns; c++) {
      error += apart[c] * one[c];
      power += row[c] * two[c];
    }
  }
  return { error: Math.max(0, error), power: Math.max(0, power) };
}

function product(
  moments: Float32Array,
  a: Float64Array,
  b: Float64Array,
  outA: Float64Array,
  outB: Float64Array,
): void {
  const n = a.length;
  for (let i = 0; i < n; i++) {
    let [sumA, sumB] = [0, 0];
    for (let j = 0, at = i * n; j < n; j++, at++) {
      sumA += moments[at] * a[j];
      sumB += moments[at] * b[j];
    }
    outA[i] = sumA;
    outB[i] = sumB;
  }
}
