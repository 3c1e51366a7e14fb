/** How rows of queries and keys become non-negative features whose products stand for attention weights. */
export type FeatureMap =
  /**
   * Positive random features of the softmax kernel (Choromanski et al. 2021, lemma 1): x ← x/D^¼,
   * φ(x) = m^-½ (exp(Wx − ‖x‖²/2 − c) + ε). The stabiliser c is the largest exponent: of its row for a query, of all
   * keys for a key; without ε it cancels.
   */
  | { readonly kind: 'performer'; readonly epsilon: number }
  /**
   * Learned features φ(x) = [exp(Wx), exp(−Wx)] (Zhang et al. 2024, section 4.2), stabilised alike; with `normalise`
   * each half is a softmax over its features.
   */
  | { readonly kind: 'hedgehog'; readonly normalise: boolean }
  /** φ(x) = max(x, 0) (Cai et al. 2023, section 3.1). */
  | { readonly kind: 'relu' }
  /**
   * φ(xᵢ) = [max(xᵢ, 0) cos(πi/2M), max(xᵢ, 0) sin(πi/2M)], so that a weight falls with the cosine of the distance
   * (Qin et al. 2022, section 3.2). M = `maxLength`, and no row stands at or beyond it.
   */
  | { readonly kind: 'cosformer'; readonly maxLength: number };

type Rows = readonly Float64Array[];

/** Features of a row where W has `features` rows, or the padded head has as many columns. */
export const outputFeatures = ({ kind }: FeatureMap, features: number): number =>
  kind === 'hedgehog' || kind === 'cosformer' ? 2 * features : features;

/** Angles of rows under cosformer: πi/2M. */
export const cosformerAngle = (i: number, maxLength: number): number => (Math.PI * i) / (2 * maxLength);

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < b.length; i++) sum += a[i] * b[i];
  return sum;
};

const largest = (row: Float64Array): number => row.reduce((a, b) => Math.max(a, b), -Infinity);

/** Exponents before the stabiliser, of maps that have W. */
function exponents({ kind }: FeatureMap, W: Rows, x: Float64Array): Float64Array {
  if (kind === 'hedgehog') {
    const e = W.map((w) => dot(w, x));
    return Float64Array.from([...e, ...e.map((v) => -v)]);
  }
  const scaled = x.map((v) => v / x.length ** 0.25);
  const half = dot(scaled, scaled) / 2;
  return Float64Array.from(W, (w) => dot(w, scaled) - half);
}

function softmaxHalves(e: Float64Array): Float64Array {
  const half = e.length / 2;
  const halves = [e.subarray(0, half), e.subarray(half)].map((part) => {
    const top = largest(part);
    const powers = part.map((v) => Math.exp(v - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((v) => v / sum);
  });
  return Float64Array.from([...halves[0], ...halves[1]]);
}

function mapRows(map: FeatureMap, W: Rows | null, rows: Rows, shared: boolean): Float64Array[] {
  if (map.kind === 'relu' || map.kind === 'cosformer')
    return rows.map((row, i) => {
      const x = row.map((v) => Math.max(v, 0));
      if (map.kind === 'relu') return x;
      const angle = cosformerAngle(i, map.maxLength);
      return Float64Array.from([...x.map((v) => v * Math.cos(angle)), ...x.map((v) => v * Math.sin(angle))]);
    });
  const e = rows.map((row) => exponents(map, W!, row));
  if (map.kind === 'hedgehog' && map.normalise) return e.map(softmaxHalves);
  const tops = e.map(largest);
  const top = tops.reduce((a, b) => Math.max(a, b), -Infinity);
  return e.map((row, i) => {
    const c = shared ? top : tops[i];
    if (map.kind === 'hedgehog') return row.map((v) => Math.exp(v - c));
    return row.map((v) => (Math.exp(v - c) + map.epsilon) / Math.sqrt(row.length));
  });
}

/** φ of query rows `[D]` at positions 0, 1, …, in float64. @param W rows `[D]` of the features, or null */
export const queryFeatures = (map: FeatureMap, W: Rows | null, rows: Rows): Float64Array[] =>
  mapRows(map, W, rows, false);

/** φ of key rows, all of those that are there. */
export const keyFeatures = (map: FeatureMap, W: Rows | null, rows: Rows): Float64Array[] =>
  mapRows(map, W, rows, true);
