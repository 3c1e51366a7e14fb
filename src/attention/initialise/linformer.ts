import type { Calibration, InitialiseContext, Initialised, LayerSample, LayerShape } from '../mechanism.ts';
import { attentionRows, scoresOf, softmaxRows, spreadRows } from './mean-attention.ts';
import { addGram, addProduct, ridgeSolve } from './ridge.ts';
import { bestSegments, evenSegments } from './segments.ts';

export type Share = 'layer' | 'key-value' | 'head';

/** Queries of one head of one sequence that are looked at. */
const ROWS = 64;
/** Positions up to which attention's Gram matrix is held. */
const MOST_POSITIONS = 2048;
const RIDGE = 0.01;

/** E of runs of neighbours: each row is the mean of its run. `[r, N]`. */
export function poolingMatrix(starts: Int32Array, N: number): Float64Array {
  const out = new Float64Array(starts.length * N);
  starts.forEach((start, j) => {
    const end = j + 1 < starts.length ? starts[j + 1] : N;
    out.fill(1 / (end - start), j * N + start, j * N + end);
  });
  return out;
}

/**
 * E and F of Linformer. E averages runs of neighbouring positions, cut where calibration says that it hurts least
 * (`bestSegments`), or evenly without calibration; its rows sum to 1, so that an averaged key is of a key's size. Where
 * values have a matrix of their own, F is what best carries the dense layer's attention, given E: the ridge regression
 * of A on softmax(Q (E K)ᵀ/√D), drawn to E where the text says nothing. With r = N both are the identity.
 */
export async function initialiseLinformer(
  { layer, calibration }: InitialiseContext,
  { rank, share }: { readonly rank: number; readonly share: Share },
): Promise<Initialised> {
  const N = layer.maxLength;
  const starts = calibration ? await segmentsFrom(calibration, layer, rank) : evenSegments(N, rank);
  const E = poolingMatrix(starts, N);
  const tensor = (parts: readonly Float64Array[]) => {
    const data = new Float32Array(parts.length * rank * N);
    parts.forEach((part, i) => {
      data.set(part, i * rank * N);
    });
    return { shape: [parts.length, rank, N], data };
  };
  if (share === 'layer') return new Map([['projection', tensor([E])]]);
  const sets = share === 'head' ? layer.heads : 1;
  const F = calibration
    ? await valueMatrices(calibration, layer, starts, E, sets)
    : Array.from({ length: sets }, () => E);
  return new Map([
    ['keyProjection', tensor(Array.from({ length: sets }, () => E))],
    ['valueProjection', tensor(F)],
  ]);
}

async function segmentsFrom(
  calibration: Calibration,
  { index, maxLength: N, heads, headSize }: LayerShape,
  rank: number,
): Promise<Int32Array> {
  const L = Math.min(N, MOST_POSITIONS);
  const gram = new Float64Array(L * L); // AᵀA, upper triangle
  let samples = 0;
  for await (const sample of calibration.layer(index)) {
    const { n } = sample;
    if (n > L) return evenSegments(N, rank);
    for (let h = 0; h < heads; h++) {
      const rows = spreadRows(n, ROWS, samples + h);
      const attention = attentionRows(sample, h, rows, 1 / Math.sqrt(headSize));
      const share = n / rows.length;
      for (let i = 0; i < rows.length; i++)
        for (let k = 0; k < n; k++) {
          const a = share * attention[i * n + k];
          if (a < 1e-9) continue;
          for (let l = k; l < n; l++) gram[k * L + l] += a * attention[i * n + l];
        }
    }
    samples++;
  }
  for (let k = 0; k < L; k++) for (let l = 0; l < k; l++) gram[k * L + l] = gram[l * L + k];
  return bestSegments(gram, L, N, rank);
}

/** Means of the keys of each run that the sequence reaches: `[m, D]`, as the model will see them. */
function pooledKeys({ keys, n }: LayerSample, head: number, starts: Int32Array, E: Float64Array, N: number) {
  const D = keys.shape[2];
  const m = starts.findLastIndex((start) => start < n) + 1;
  const out = new Float64Array(m * D);
  for (let j = 0; j < m; j++) {
    const end = Math.min(n, j + 1 < starts.length ? starts[j + 1] : N);
    for (let k = starts[j]; k < end; k++)
      for (let d = 0; d < D; d++) out[j * D + d] += E[j * N + k] * keys.data[(head * n + k) * D + d];
  }
  return { m, out };
}

async function valueMatrices(
  calibration: Calibration,
  { index, maxLength: N, heads, headSize }: LayerShape,
  starts: Int32Array,
  E: Float64Array,
  sets: number,
): Promise<Float64Array[]> {
  const r = starts.length;
  const scale = 1 / Math.sqrt(headSize);
  const grams = Array.from({ length: sets }, () => new Float64Array(r * r));
  const rights = Array.from({ length: sets }, () => new Float64Array(r * N));
  let samples = 0;
  for await (const sample of calibration.layer(index)) {
    const { n } = sample;
    for (let h = 0; h < heads; h++) {
      const set = sets === 1 ? 0 : h;
      const rows = spreadRows(n, ROWS, samples + h);
      const wanted = attentionRows(sample, h, rows, scale); // [rows, n]
      const { m, out: keys } = pooledKeys(sample, h, starts, E, N);
      const pooled = softmaxRows(scoresOf(sample, h, rows, keys, m, scale), m); // [rows, m]
      const wide = new Float64Array(rows.length * r);
      rows.forEach((_, i) => {
        wide.set(pooled.subarray(i * m, (i + 1) * m), i * r);
        for (let j = 0; j < m; j++) {
          const end = Math.min(n, j + 1 < r ? starts[j + 1] : N);
          for (let k = starts[j]; k < end; k++) wanted[i * n + k] -= pooled[i * m + j] * E[j * N + k];
        }
      });
      addGram(grams[set], wide, rows.length, r);
      addProduct(rights[set], wide, r, wanted, n, rows.length, N);
    }
    samples++;
  }
  return grams.map((gram, set) => {
    const change = ridgeSolve(gram, r, rights[set], N, RIDGE);
    return E.map((x, i) => x + change[i]);
  });
}
