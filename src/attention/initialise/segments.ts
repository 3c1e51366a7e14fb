/** Strength of the wish for segments of equal size, as a part of the mean energy of a position. */
const PRIOR = 0.02;

/** First position of each of `count` segments of almost equal size that cover N positions. */
export const evenSegments = (N: number, count: number): Int32Array =>
  Int32Array.from({ length: count }, (_, j) => Math.floor((j * N) / count));

/**
 * Cuts N positions into `count` runs of neighbours so that replacing attention's columns by the mean of their run
 * changes it least: minimises ‖A − AΠ‖² over all such Π = EᵀE by dynamic programming, given the Gram matrix AᵀA of
 * the first L positions. With as many runs as positions nothing changes. Gives the first position of each run.
 *
 * Runs of neighbours and not singular vectors: softmax sees E·K, not A·Eᵀ, and a row of mixed signs gives a key that
 * no token has.
 */
export function bestSegments(gram: Float64Array, L: number, N: number, count: number): Int32Array {
  const { cost } = costs(gram, L, N);
  let best = Float64Array.from({ length: N + 1 }, (_, end) => (end > 0 ? cost(0, end) : Infinity));
  const cuts: Int32Array[] = [];
  for (let j = 1; j < count; j++) {
    const next = new Float64Array(N + 1).fill(Infinity);
    const cut = new Int32Array(N + 1);
    // Every run holds at least one position.
    for (let end = j + 1; end <= N - (count - 1 - j); end++)
      for (let start = j; start < end; start++) {
        const total = best[start] + cost(start, end);
        if (total < next[end]) {
          next[end] = total;
          cut[end] = start;
        }
      }
    best = next;
    cuts.push(cut);
  }
  const starts = new Int32Array(count);
  for (let j = count - 1, end = N; j > 0; j--) {
    end = cuts[j - 1][end];
    starts[j] = end;
  }
  return starts;
}

/** What it costs to average the positions from `start` to `end`, in O(1). */
function costs(gram: Float64Array, L: number, N: number) {
  const W = L + 1;
  const blocks = new Float64Array(W * W);
  const diagonal = new Float64Array(N + 1);
  for (let i = 0; i < L; i++)
    for (let j = 0; j < L; j++)
      blocks[(i + 1) * W + j + 1] =
        gram[i * L + j] + blocks[i * W + j + 1] + blocks[(i + 1) * W + j] - blocks[i * W + j];
  for (let i = 0; i < N; i++) diagonal[i + 1] = diagonal[i] + (i < L ? gram[i * L + i] : 0);
  // Where nothing was seen, columns are taken to agree the less the further they stand apart.
  const reach = Math.max(1, N / 4);
  const strength = PRIOR * (diagonal[N] > 0 ? diagonal[N] / N : 1);
  const prior = new Float64Array(N + 1);
  let [within, toLast] = [0, 0];
  for (let size = 1; size <= N; size++) {
    if (size > 1) toLast += Math.exp(-(size - 1) / reach);
    within += 1 + 2 * toLast;
    prior[size] = strength * (size - within / size);
  }
  const cost = (start: number, end: number): number => {
    const [s, e] = [Math.min(start, L), Math.min(end, L)];
    const sum = blocks[e * W + e] - blocks[s * W + e] - blocks[e * W + s] + blocks[s * W + s];
    return diagonal[end] - diagonal[start] - sum / (end - start) + prior[end - start];
  };
  return { cost };
}
