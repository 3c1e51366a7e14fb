import { AttenuateError } from '../../tensor/error.ts';
import type { Calibration, InitialiseContext, Initialised, LayerSample, MadeTensor } from '../mechanism.ts';
import { scoresOf, spreadRows } from './mean-attention.ts';
import { addGram, addProduct, ridgeSolve } from './ridge.ts';
import { WITHOUT_QUERIES_AND_KEYS } from './synthesizer.ts';

/** Queries of one head of one sequence that are looked at. */
const ROWS = 128;
const RIDGE = 0.001;

const padded = (size: number): number => (size + 7) & ~7;

/** How far each hidden unit is moved up: to one deviation above zero on average, so that few are cut off. */
async function shiftsFrom(calibration: Calibration, index: number, columns: number): Promise<Float64Array> {
  const sums = new Float64Array(columns);
  const squares = new Float64Array(columns);
  let count = 0;
  for await (const { n, queries } of calibration.layer(index)) {
    const D = queries.shape[2];
    for (let h = 0; h < columns / D; h++)
      for (let q = 0; q < n; q++)
        for (let d = 0; d < D; d++) {
          const x = queries.data[(h * n + q) * D + d];
          sums[h * D + d] += x;
          squares[h * D + d] += x * x;
        }
    count += n;
  }
  if (count === 0)
    throw new AttenuateError(
      'CALIBRATION_MISSING',
      '[attention] synthesizer-dense is fitted to the scores that your text meets inside the model: expected calibration text, got none. Pass it with --calibrate, or calibrate to applyRecipe.',
      { kind: 'synthesizer-dense' },
    );
  return sums.map((sum, i) => {
    const mean = sum / count;
    return Math.sqrt(Math.max(0, squares[i] / count - mean * mean)) - mean;
  });
}

function hiddenRows(
  { n, queries }: LayerSample,
  head: number,
  rows: readonly number[],
  shifts: Float64Array,
): Float64Array {
  const D = queries.shape[2];
  const out = new Float64Array(rows.length * D);
  rows.forEach((q, i) => {
    for (let d = 0; d < D; d++)
      out[i * D + d] = Math.max(0, queries.data[(head * n + q) * D + d] + shifts[head * D + d]);
  });
  return out;
}

/** Takes from each row of `m` scores its mean, to which softmax is blind. */
function centre(scores: Float64Array, m: number): void {
  for (let from = 0; from < scores.length; from += m) {
    let mean = 0;
    for (let k = 0; k < m; k++) mean += scores[from + k] / m;
    for (let k = 0; k < m; k++) scores[from + k] -= mean;
  }
}

/**
 * W1 is the query projection, moved up so that most hidden units are on; W2 `[H, N, D′]` the ridge regression of the
 * dense layer's scores on the hidden units, one for each position a key can have, over the sequences that have it.
 */
export async function initialiseDense({
  layer,
  weight,
  calibration,
}: InitialiseContext): Promise<Initialised> {
  const { index, heads, headSize: D, maxLength: N } = layer;
  const pitch = padded(D);
  const source = calibration ?? { async *layer() {} };
  const shifts = await shiftsFrom(source, index, heads * D);
  // Normal equations by the length of the sequences, since position k is met by those longer than k alone.
  const grams = new Map<number, Float64Array[]>();
  const rights = Array.from({ length: heads }, () => new Float64Array(D * N)); // [D, N]
  let samples = 0;
  for await (const sample of source.layer(index)) {
    const { n, keys } = sample;
    if (!grams.has(n))
      grams.set(
        n,
        Array.from({ length: heads }, () => new Float64Array(D * D)),
      );
    for (let h = 0; h < heads; h++) {
      const rows = spreadRows(n, ROWS, samples + h);
      const own = keys.data.subarray(h * n * D, (h + 1) * n * D);
      const scores = scoresOf(sample, h, rows, own, n, 1 / Math.sqrt(D));
      centre(scores, n);
      const hidden = hiddenRows(sample, h, rows, shifts);
      addGram(grams.get(n)![h], hidden, rows.length, D);
      addProduct(rights[h], hidden, D, scores, n, rows.length, N);
    }
    samples++;
  }
  const data = new Float32Array(heads * N * pitch);
  const lengths = [...grams.keys()].sort((a, b) => b - a);
  for (let h = 0; h < heads; h++) {
    const gram = new Float64Array(D * D);
    lengths.forEach((n, i) => {
      grams.get(n)![h].forEach((x, j) => {
        gram[j] += x;
      });
      const from = lengths[i + 1] ?? 0;
      const width = n - from;
      const right = new Float64Array(D * width);
      for (let d = 0; d < D; d++) right.set(rights[h].subarray(d * N + from, d * N + n), d * width);
      const solved = ridgeSolve(gram, D, right, width, RIDGE); // [D, width]
      for (let k = 0; k < width; k++)
        for (let d = 0; d < D; d++) data[(h * N + from + k) * pitch + d] = solved[d * width + k];
    });
  }
  const [w, b] = [await weight('query.weight'), await weight('query.bias')];
  return new Map<string, MadeTensor | null>([
    ...WITHOUT_QUERIES_AND_KEYS,
    ['hidden.weight', w],
    ['hidden.bias', { shape: b.shape, data: b.data.map((x, i) => x + shifts[i]) }],
    ['storedKeys', { shape: [heads, N, pitch], data }],
  ]);
}
