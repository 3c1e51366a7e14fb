import { type Dim, dim } from '../../tensor/dim.ts';
import type { OpDefinition, ReferenceTensor } from '../op.ts';
import { cosformerAngle, type FeatureMap } from '../ops/feature-maps.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { addHeads } from './add-heads.ts';
import { plainRule } from './rule.ts';

export interface FeaturesAttributes {
  readonly map: FeatureMap;
  /** First head of x, and its columns. */
  readonly from: number;
  readonly size: number;
  /** Whether a second input holds Wx; a map without W has none. */
  readonly projected: boolean;
  /** Keys have one stabiliser for all rows, and no features from their lengths on: the last input. */
  readonly keys: boolean;
}
export type FeaturesNode = Node<'features', FeaturesAttributes>;
/** Inputs: those of the features, their outputs, the gradient. Outputs: that of x, and of Wx. */
export type FeaturesGradientNode = Node<'featuresGradient', FeaturesAttributes>;
/** φ of rows by head `[heads …, B, N, D′]` → `[heads, B, N, features]`; `exponents` is Wx, where the map has W. */
export function features(
  t: Tracer,
  attributes: FeaturesAttributes,
  heads: number,
  x: Value,
  exponents: Value | null,
  lengths: Value | null,
  count: number,
): Value {
  return t.emit('features', {
    inputs: [x, exponents, lengths].filter((v) => v !== null),
    parameters: [],
    outputs: [['phi', 'float32', [dim(heads), x.shape[1], x.shape[2], dim(count)]]],
    attributes,
    rowWise: false,
  })[0];
}

export const featuresRule = plainRule<FeaturesNode>(
  'features',
  (t, { attributes }, { inputs, outputs: [phi], gradients: [dPhi], sink }) => {
    if (!dPhi) return;
    const [x] = inputs;
    const heads = phi.shape[0];
    const shape = [heads, ...x.shape.slice(1)];
    const outputs: [string, 'float32', readonly Dim[]][] = [['dx', 'float32', shape]];
    if (attributes.projected) outputs.push(['dExponents', 'float32', inputs[1].shape]);
    const [dx, dExponents] = t.emit('featuresGradient', {
      inputs: [...inputs, phi, dPhi],
      parameters: [],
      outputs,
      attributes,
      rowWise: false,
    });
    if (sink.wants(0)) sink.replace(0, addHeads(t, x.shape, sink.soFar(0), dx, attributes.from));
    if (dExponents && sink.wants(1)) sink.add(1, dExponents);
  },
);

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** One head of one sequence: its rows of x and of Wx, how many are there, and where its features begin. */
function eachSequence(
  { from, projected, keys, size: D }: FeaturesAttributes,
  inputs: readonly ReferenceTensor[],
  [heads, B, N, count]: readonly number[],
  visit: (
    rows: readonly Float64Array[],
    exponents: readonly Float64Array[] | null,
    places: { x: number; e: number; phi: number; pitch: number; m: number },
  ) => void,
): void {
  const [x, e] = inputs;
  const lengths = keys ? inputs[projected ? 2 : 1] : undefined;
  const pitch = x.shape[3];
  const m = projected ? e.shape[3] : 0;
  for (let h = 0; h < heads; h++)
    for (let b = 0; b < B; b++) {
      const length = lengths ? Math.max(0, Math.min(N, lengths.data[b])) : N;
      const first = ((from + h) * B + b) * N;
      const own = (h * B + b) * N;
      const rows = Array.from({ length }, (_, n) =>
        x.data.subarray((first + n) * pitch, (first + n) * pitch + D),
      );
      const exponents = projected
        ? Array.from({ length }, (_, n) => e.data.subarray((own + n) * m, (own + n + 1) * m))
        : null;
      visit(rows, exponents, { x: own * pitch, e: own * m, phi: own * count, pitch, m });
    }
}

/** Exponents of features before the stabiliser, and what each is to Wx. */
function exponentsOf(map: FeatureMap, x: Float64Array, e: Float64Array): Float64Array {
  if (map.kind === 'hedgehog') return Float64Array.from([...e, ...e.map((v) => -v)]);
  const half = x.reduce((a, v) => a + v * v, 0) / Math.sqrt(x.length) / 2;
  return e.map((v) => v / x.length ** 0.25 - half);
}

const largest = (row: Float64Array): number => row.reduce((a, b) => Math.max(a, b), -Infinity);

function softmaxHalves(e: Float64Array): Float64Array {
  const half = e.length / 2;
  return Float64Array.from(
    [e.subarray(0, half), e.subarray(half)].flatMap((part) => {
      const powers = part.map((v) => Math.exp(v - largest(part)));
      const sum = powers.reduce((a, b) => a + b, 0);
      return [...powers.map((v) => v / sum)];
    }),
  );
}

export const featuresOp: OpDefinition<FeaturesNode> = {
  kind: 'features',
  budget: { absolute: 2e-6, relative: 1e-5 },
  multiplyAdds: (_node, { outputs }) => 8 * size(outputs[0]),
  reference({ attributes }, { inputs, outputShapes: [shape] }) {
    const { map, keys } = attributes;
    const count = shape[3];
    const out = new Float64Array(size(shape));
    eachSequence(attributes, inputs, shape, (rows, e, { phi, pitch }) => {
      if (!e) {
        rows.forEach((row, n) => {
          row.forEach((v, d) => {
            const angle = map.kind === 'cosformer' ? cosformerAngle(n, map.maxLength) : 0;
            out[phi + n * count + d] = Math.max(v, 0) * Math.cos(angle);
            if (map.kind === 'cosformer') out[phi + n * count + pitch + d] = Math.max(v, 0) * Math.sin(angle);
          });
        });
        return;
      }
      const exponents = rows.map((row, n) => exponentsOf(map, row, e[n]));
      if (map.kind === 'hedgehog' && map.normalise) {
        exponents.forEach((row, n) => {
          out.set(softmaxHalves(row), phi + n * count);
        });
        return;
      }
      const top = exponents.reduce((a, row) => Math.max(a, largest(row)), -Infinity);
      exponents.forEach((row, n) => {
        const c = keys ? top : largest(row);
        const of = (v: number) =>
          map.kind === 'performer' ? (Math.exp(v - c) + map.epsilon) / Math.sqrt(count) : Math.exp(v - c);
        out.set(row.map(of), phi + n * count);
      });
    });
    return [out];
  },
};

export const featuresGradientOp: OpDefinition<FeaturesGradientNode> = {
  kind: 'featuresGradient',
  budget: { absolute: 2e-6, relative: 1e-5 },
  multiplyAdds: (_node, { inputs }) => 4 * size(inputs.at(-1)!),
  reference({ attributes }, { inputs, outputShapes }) {
    const { map } = attributes;
    const [phi, d] = inputs.slice(-2);
    const count = phi.shape[3];
    const [dx, de] = outputShapes.map((s) => new Float64Array(size(s)));
    eachSequence(attributes, inputs, phi.shape, (rows, e, places) => {
      const at = (n: number) => places.phi + n * count;
      const slice = (of: ReferenceTensor, n: number) => of.data.subarray(at(n), at(n) + count);
      if (!e) {
        rows.forEach((row, n) => {
          const angle = map.kind === 'cosformer' ? cosformerAngle(n, map.maxLength) : 0;
          const g = slice(d, n);
          row.forEach((v, i) => {
            const sine = map.kind === 'cosformer' ? g[places.pitch + i] * Math.sin(angle) : 0;
            dx[places.x + n * places.pitch + i] = v > 0 ? g[i] * Math.cos(angle) + sine : 0;
          });
        });
        return;
      }
      const byRow = rows.map((_, n) => exponentGradient(map, slice(phi, n), slice(d, n)));
      if (map.kind === 'performer') giveStabiliser(byRow, (n) => slice(phi, n), attributes.keys);
      rows.forEach((row, n) => {
        const dExponents = byRow[n];
        const { m } = places;
        if (map.kind === 'hedgehog') {
          for (let i = 0; i < m; i++) de[places.e + n * m + i] = dExponents[i] - dExponents[m + i];
          return;
        }
        const sum = dExponents.reduce((a, b) => a + b, 0);
        for (let i = 0; i < m; i++) de[places.e + n * m + i] = dExponents[i] / row.length ** 0.25;
        row.forEach((v, i) => {
          dx[places.x + n * places.pitch + i] = (-sum * v) / Math.sqrt(row.length);
        });
      });
    });
    return de ? [dx, de] : [dx];
  },
};

/**
 * Takes off the largest exponent, of each row or of all, what the stabiliser gives to every other: because of ε, it
 * does not cancel.
 */
function giveStabiliser(byRow: Float64Array[], phi: (n: number) => Float64Array, keys: boolean): void {
  const groups = keys ? [byRow.map((_, n) => n)] : byRow.map((_, n) => [n]);
  for (const group of groups) {
    let [best, row, column, sum] = [-Infinity, 0, 0, 0];
    for (const n of group)
      phi(n).forEach((p, i) => {
        sum += byRow[n][i];
        if (p > best) [best, row, column] = [p, n, i];
      });
    if (group.length) byRow[row][column] -= sum;
  }
}

/** Gradient of a row's exponents from its features: their derivative is what they are, less ε. */
function exponentGradient(map: FeatureMap, phi: Float64Array, g: Float64Array): Float64Array {
  if (map.kind === 'performer') {
    const least = map.epsilon / Math.sqrt(phi.length);
    return phi.map((p, i) => (p - least) * g[i]);
  }
  if (map.kind === 'hedgehog' && map.normalise) {
    const half = phi.length / 2;
    const means = [0, half].map((from) => {
      let mean = 0;
      for (let i = from; i < from + half; i++) mean += phi[i] * g[i];
      return mean;
    });
    return phi.map((p, i) => p * (g[i] - means[i < half ? 0 : 1]));
  }
  return phi.map((p, i) => p * g[i]);
}
