import { evaluateMask, type MaskExpression } from '../../program/mask/expression.ts';
import type { LayerSample } from '../mechanism.ts';

/** A pattern whose share of the attention is measured. */
export interface Pattern {
  readonly name: string;
  readonly mask: MaskExpression;
}

/** What the attention of one head looks like, averaged over query rows of the samples. */
export interface HeadReport {
  readonly head: number;
  /** Mean of −Σ p ln p, in nats. */
  readonly entropy: number;
  /** Mean of exp(entropy) of a row: how many keys it spreads over. */
  readonly effectiveKeys: number;
  /** Mean of Σ p·|q − k|, in tokens. */
  readonly meanDistance: number;
  /** Mean over rows of the smallest w with 90 % of the mass at |q − k| ≤ w. */
  readonly span90: number;
  /** Share of the mass that each pattern keeps, by name. */
  readonly kept: Readonly<Record<string, number>>;
  /** Share of a row's keys that hold 90 % of its mass, the largest first: what a perfect dynamic mask would keep. */
  readonly sparse90: number;
  /** Median of ‖q + k‖² with q and k divided by D^¼: what decides whether random features can be used. */
  readonly sumNorm: number;
}

/** Sums over the rows of every sample for one layer; ask `reports` at the end. */
export class HeadStatistics {
  private readonly patterns: readonly Pattern[];
  private readonly rowsPerSample: number;
  private readonly sums: {
    rows: number;
    entropy: number;
    effective: number;
    distance: number;
    span: number;
    sparse: number;
    kept: Float64Array;
    norms: number[];
  }[] = [];

  /** @param rowsPerSample query rows looked at in each sequence, evenly spread */
  constructor(patterns: readonly Pattern[], rowsPerSample = 64) {
    this.patterns = patterns;
    this.rowsPerSample = rowsPerSample;
  }

  add({ n, queries, keys }: LayerSample): void {
    const [heads, , D] = queries.shape;
    const step = Math.max(1, n / this.rowsPerSample);
    const weights = new Float64Array(n);
    for (let h = 0; h < heads; h++) {
      const sum = (this.sums[h] ??= {
        rows: 0,
        entropy: 0,
        effective: 0,
        distance: 0,
        span: 0,
        sparse: 0,
        kept: new Float64Array(this.patterns.length),
        norms: [],
      });
      for (let at = 0; at < n; at += step) {
        const q = Math.floor(at);
        softmaxRow(queries.data, keys.data, h, q, n, D, weights);
        let entropy = 0;
        let distance = 0;
        for (let k = 0; k < n; k++) {
          if (weights[k] > 0) entropy -= weights[k] * Math.log(weights[k]);
          distance += weights[k] * Math.abs(q - k);
        }
        sum.rows++;
        sum.entropy += entropy;
        sum.effective += Math.exp(entropy);
        sum.distance += distance;
        sum.span += spanOf(weights, q, n, 0.9);
        sum.sparse += keysFor(weights, 0.9) / n;
        this.patterns.forEach(({ mask }, p) => {
          for (let k = 0; k < n; k++) if (evaluateMask(mask, { h, q, k, keys: n })) sum.kept[p] += weights[k];
        });
        // One key a row, walking through the sequence, is a fair draw of pairs.
        sum.norms.push(sumNorm(queries.data, keys.data, h, q, (q * 7 + sum.rows) % n, n, D));
      }
    }
  }

  reports(): HeadReport[] {
    return this.sums.map((sum, head) => ({
      head,
      entropy: sum.entropy / sum.rows,
      effectiveKeys: sum.effective / sum.rows,
      meanDistance: sum.distance / sum.rows,
      span90: sum.span / sum.rows,
      kept: Object.fromEntries(this.patterns.map(({ name }, p) => [name, sum.kept[p] / sum.rows])),
      sparse90: sum.sparse / sum.rows,
      sumNorm: sum.norms.toSorted((a, b) => a - b)[sum.norms.length >> 1],
    }));
  }
}

/** Softmax of one query over all keys, into `weights`. */
function softmaxRow(
  queries: Float32Array,
  keys: Float32Array,
  h: number,
  q: number,
  n: number,
  D: number,
  weights: Float64Array,
): void {
  const scale = 1 / Math.sqrt(D);
  let largest = -Infinity;
  for (let k = 0; k < n; k++) {
    let score = 0;
    for (let d = 0; d < D; d++) score += queries[(h * n + q) * D + d] * keys[(h * n + k) * D + d];
    weights[k] = score * scale;
    largest = Math.max(largest, weights[k]);
  }
  let sum = 0;
  for (let k = 0; k < n; k++) sum += weights[k] = Math.exp(weights[k] - largest);
  for (let k = 0; k < n; k++) weights[k] /= sum;
}

/** The smallest w for which keys at most w away hold `share` of the mass. */
function spanOf(weights: Float64Array, q: number, n: number, share: number): number {
  let mass = weights[q];
  let w = 0;
  while (mass < share && w < n) {
    w++;
    if (q - w >= 0) mass += weights[q - w];
    if (q + w < n) mass += weights[q + w];
  }
  return w;
}

/** How many keys, the heaviest first, hold `share` of the mass. */
function keysFor(weights: Float64Array, share: number): number {
  const sorted = weights.toSorted();
  let mass = 0;
  let count = 0;
  while (mass < share && count < sorted.length) mass += sorted[sorted.length - ++count];
  return count;
}

function sumNorm(
  queries: Float32Array,
  keys: Float32Array,
  h: number,
  q: number,
  k: number,
  n: number,
  D: number,
): number {
  let sum = 0;
  for (let d = 0; d < D; d++) sum += (queries[(h * n + q) * D + d] + keys[(h * n + k) * D + d]) ** 2;
  return sum / Math.sqrt(D);
}
