import type { InitialiseContext, LayerSample, Tensor } from '../mechanism.ts';

const PARTS = ['queries', 'keys', 'values'] as const;
/** Query rows of a sequence that the readout is fitted on. */
const ROWS = 24;

const pad = (size: number): number => (size + 7) & ~7;
/** A channel that only pads a head never spikes. */
const NEVER = 1e30;

/** Share of channels of queries, keys and values that spike on a sample. */
export function spikeRates(sample: LayerSample, thresholds: Tensor): Record<(typeof PARTS)[number], number> {
  const [H, n, D] = sample.queries.shape;
  const pitch = thresholds.shape[1];
  const rates = PARTS.map((name, part) => {
    let count = 0;
    sample[name].data.forEach((x, i) => {
      const [h, d] = [Math.floor(i / (n * D)), i % D];
      if (x > thresholds.data[(part * H + h) * pitch + d]) count++;
    });
    return count / (H * n * D);
  });
  return { queries: rates[0], keys: rates[1], values: rates[2] };
}

/** Thresholds `[3·H, D′]` above which a channel lies for `rate` of the tokens. */
async function findThresholds({ layer, calibration }: InitialiseContext, rate: number): Promise<Tensor> {
  const { heads: H, headSize: D } = layer;
  const seen: number[][] = Array.from({ length: 3 * H * D }, () => []);
  for await (const sample of calibration!.layer(layer.index))
    PARTS.forEach((name, part) => {
      sample[name].data.forEach((x, i) => {
        const h = Math.floor(i / (sample.n * D));
        seen[(part * H + h) * D + (i % D)].push(x);
      });
    });
  const pitch = pad(D);
  const data = new Float32Array(3 * H * pitch).fill(NEVER);
  seen.forEach((values, i) => {
    values.sort((a, b) => a - b);
    const at = Math.min(values.length - 1, Math.max(0, Math.ceil((1 - rate) * values.length) - 1));
    data[Math.floor(i / D) * pitch + (i % D)] = values[at] ?? NEVER;
  });
  return { shape: [3 * H, pitch], data };
}

/** Dense attention of one query, and the mean value spike that spiking attention has in its place. */
function rowPair(sample: LayerSample, h: number, q: number, thresholds: Tensor) {
  const { n, queries, keys, values } = sample;
  const [H, , D] = queries.shape;
  const pitch = thresholds.shape[1];
  const at = (row: number) => (h * n + row) * D;
  const fires = (x: Float32Array, part: number, row: number, d: number) =>
    x[at(row) + d] > thresholds.data[(part * H + h) * pitch + d];
  const scores = new Float64Array(n);
  const shared = new Float64Array(n);
  for (let k = 0; k < n; k++)
    for (let d = 0; d < D; d++) {
      scores[k] += (queries.data[at(q) + d] * keys.data[at(k) + d]) / Math.sqrt(D);
      if (fires(queries.data, 0, q, d) && fires(keys.data, 1, k, d)) shared[k]++;
    }
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = scores.reduce((sum, s) => sum + Math.exp(s - largest), 0);
  const weight = shared.reduce((a, b) => a + b, 0);
  const [dense, spiking] = [new Float64Array(D), new Float64Array(D)];
  for (let k = 0; k < n; k++)
    for (let d = 0; d < D; d++) {
      dense[d] += (Math.exp(scores[k] - largest) / total) * values.data[at(k) + d];
      if (weight > 0 && fires(values.data, 2, k, d)) spiking[d] += shared[k] / weight;
    }
  return { dense, spiking };
}

/** Thresholds by quantile, and by channel the least-squares line from spikes to what dense attention gives. */
export async function initialiseSpiking(
  context: InitialiseContext,
  rate: number,
): Promise<ReadonlyMap<string, Tensor>> {
  const thresholds = await findThresholds(context, rate);
  const { heads: H, headSize: D, index } = context.layer;
  const pitch = pad(D);
  const moments = Array.from({ length: 5 }, () => new Float64Array(H * D));
  const [count, x1, y1, xx, xy] = moments;
  for await (const sample of context.calibration!.layer(index))
    for (let at = 0; at < sample.n; at += Math.max(1, sample.n / ROWS))
      for (let h = 0; h < H; h++) {
        const { dense, spiking } = rowPair(sample, h, Math.floor(at), thresholds);
        for (let d = 0; d < D; d++) {
          const i = h * D + d;
          count[i]++;
          x1[i] += spiking[d];
          y1[i] += dense[d];
          xx[i] += spiking[d] ** 2;
          xy[i] += spiking[d] * dense[d];
        }
      }
  const data = new Float32Array(2 * H * pitch);
  for (let i = 0; i < H * D; i++) {
    const n = Math.max(1, count[i]);
    const variance = xx[i] / n - (x1[i] / n) ** 2;
    const slope = variance > 1e-12 ? (xy[i] / n - (x1[i] / n) * (y1[i] / n)) / variance : 0;
    const to = Math.floor(i / D) * pitch + (i % D);
    data[to] = slope;
    data[H * pitch + to] = y1[i] / n - slope * (x1[i] / n);
  }
  return new Map([
    ['thresholds', thresholds],
    ['readout', { shape: [2 * H, pitch], data }],
  ]);
}
