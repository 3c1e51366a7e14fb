import { names } from '../../model/names.ts';

/** Reads a weight of the teacher as row-major floats. */
export type ReadFloats = (name: string) => Promise<Float32Array>;

/** Which of a teacher layer's parts a student layer keeps, each in ascending order. */
export interface KeptParts {
  readonly channels: readonly number[];
  readonly heads: readonly number[];
  readonly neurons: readonly number[];
}

/** Rows and columns of a matrix `[R, C]` that are kept. */
export function submatrix(
  matrix: Float32Array,
  columns: number,
  rows: readonly number[],
  kept: readonly number[],
): Float32Array {
  const out = new Float32Array(rows.length * kept.length);
  rows.forEach((r, i) => {
    kept.forEach((c, j) => {
      out[i * kept.length + j] = matrix[r * columns + c];
    });
  });
  return out;
}

export const subvector = (vector: Float32Array, kept: readonly number[]): Float32Array =>
  Float32Array.from(kept, (i) => vector[i]);

const rowsOfHeads = (heads: readonly number[], size: number): number[] =>
  heads.flatMap((h) => Array.from({ length: size }, (_, d) => h * size + d));

/**
 * The weights of student layer `to`, cut out of teacher layer `from`; by canonical name, with their shapes.
 * @param sizes of the teacher's layer
 */
export async function cutLayer(
  read: ReadFloats,
  from: number,
  to: number,
  { channels, heads, neurons }: KeptParts,
  sizes: { readonly channels: number; readonly headSize: number; readonly feedForwardSize: number },
): Promise<Map<string, { shape: number[]; data: Float32Array }>> {
  const [source, target] = [names.layer(from), names.layer(to)];
  const out = new Map<string, { shape: number[]; data: Float32Array }>();
  const inner = rowsOfHeads(heads, sizes.headSize);
  const product = async (
    part: 'query' | 'key' | 'value' | 'output' | 'up' | 'down',
    width: number,
    rows: readonly number[],
    columns: readonly number[],
  ) => {
    const weight = await read(`${source[part]}.weight`);
    out.set(`${target[part]}.weight`, {
      shape: [rows.length, columns.length],
      data: submatrix(weight, width, rows, columns),
    });
    const bias = subvector(await read(`${source[part]}.bias`), rows);
    out.set(`${target[part]}.bias`, { shape: [rows.length], data: bias });
  };
  for (const part of ['query', 'key', 'value'] as const) await product(part, sizes.channels, inner, channels);
  const allHeads = (await read(`${source.output}.weight`)).length / sizes.channels;
  await product('output', allHeads, channels, inner);
  await product('up', sizes.channels, neurons, channels);
  await product('down', sizes.feedForwardSize, channels, neurons);
  for (const norm of ['attentionNorm', 'feedForwardNorm'] as const)
    for (const part of ['scale', 'bias']) {
      const data = subvector(await read(`${source[norm]}.${part}`), channels);
      out.set(`${target[norm]}.${part}`, { shape: [channels.length], data });
    }
  return out;
}

/** The `count` largest of some scores, in ascending order of place. */
export function largest(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from({ length: scores.length }, (_, i) => i);
  if (count >= order.length) return order;
  return order
    .sort((a, b) => scores[b] - scores[a] || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);
}

/** How much each head can add to its layer's output: the norm of its columns of the output product times that of its values. */
export function headScores(output: Float32Array, value: Float32Array, C: number, size: number): number[] {
  const inner = value.length / C;
  return Array.from({ length: inner / size }, (_, h) => {
    let [o, v] = [0, 0];
    for (let d = h * size; d < (h + 1) * size; d++)
      for (let c = 0; c < C; c++) {
        o += output[c * inner + d] ** 2;
        v += value[d * C + c] ** 2;
      }
    return o * v;
  });
}

/** How much each neuron can add: the norm of what goes in times that of what comes out. */
export function neuronScores(up: Float32Array, down: Float32Array, C: number): number[] {
  const F = up.length / C;
  return Array.from({ length: F }, (_, f) => {
    let [into, out] = [0, 0];
    for (let c = 0; c < C; c++) {
      into += up[f * C + c] ** 2;
      out += down[c * F + f] ** 2;
    }
    return into * out;
  });
}
