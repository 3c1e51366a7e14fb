import { dim } from '../../tensor/dim.ts';
import type { OpDefinition } from '../op.ts';
import type { FakeBinarizeNode } from '../ops/fake-binarize.ts';
import type { FakeQuantizeRowsNode } from '../ops/fake-quantize-rows.ts';
import { rowQuantization } from '../ops/quantize-rows.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { linearWeightGradient } from './linear.ts';
import { plainRule } from './rule.ts';

/** Which straight-through estimate: of codes over a range, or of signs. */
export type StraightThrough = 'range' | 'sign';
export type StraightThroughGradientNode = Node<
  'straightThroughGradient',
  { readonly estimate: StraightThrough }
>;

/**
 * Gradients of x and, row by row `[…, 2]`, of the two numbers that its codes depend on.
 *
 * `range` `[low, high]`, as learned step sizes are (Esser et al. 2020, LSQ, equations 3 and 5, section 2.2), for
 * L = levels − 1 steps between the two ends and u = x / scale + zeroPoint: between the ends, 0 < u < L, dx = dy and
 * d(high) = −d(low) = dy · (⌊u⌉ − u) / L; beyond them dx = 0 and the end's own gradient is dy. Both are times
 * g = 1 / √(K · L), K the columns.
 *
 * `sign` `[α, β]` (Liu et al. 2022, BiT, section 2.2, for its levels −1 and 1): dα = dy · sign(x − β), for α inside
 * the sign changes nothing; dx = −dβ = dy where |x − β| ≤ α, else 0.
 */
export function straightThroughGradient(
  t: Tracer,
  x: Value,
  dy: Value,
  range: Parameter,
  estimate: StraightThrough,
): readonly [dx: Value, ends: Value] {
  const [dx, ends] = t.emit('straightThroughGradient', {
    inputs: [x, dy],
    parameters: [range],
    outputs: [
      ['dx', 'float32', x.shape],
      ['ends', 'float32', [...x.shape.slice(0, -1), dim(2)]],
    ],
    attributes: { estimate },
    rowWise: true,
  });
  return [dx, ends];
}

/** What one element gives: the share of dy for x, and for both numbers. */
type Shares = readonly [x: number, first: number, second: number];

function rangeShares(range: Float64Array, columns: number, levels: number): (x: number) => Shares {
  const { inverse, zeroPoint } = rowQuantization(range, levels);
  const steps = levels - 1;
  const g = 1 / Math.sqrt(columns * steps);
  return (x) => {
    const u = Math.fround(x * inverse) + zeroPoint;
    if (u <= 0) return [0, g, 0];
    if (u >= steps) return [0, 0, g];
    const off = (Math.round(u) - u) / steps;
    return [1, -off * g, off * g];
  };
}

const signShares =
  ([alpha, beta]: Float64Array) =>
  (x: number): Shares => {
    const inside = Math.abs(x - beta) <= alpha ? 1 : 0;
    return [inside, x >= beta ? 1 : -1, -inside];
  };

export const straightThroughGradientOp: OpDefinition<StraightThroughGradientNode> = {
  kind: 'straightThroughGradient',
  budget: { absolute: 1e-6, relative: 4e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 6,
  reference({ attributes: { estimate } }, { inputs: [x, dy], parameters: [{ data: range }], levels }) {
    const K = x.shape.at(-1)!;
    const shares = estimate === 'range' ? rangeShares(range, K, levels) : signShares(range);
    const dx = new Float64Array(x.data.length);
    const ends = new Float64Array((dx.length / K) * 2);
    dx.forEach((_, i) => {
      const [own, first, second] = shares(x.data[i]);
      const row = Math.floor(i / K) * 2;
      dx[i] = dy.data[i] * own;
      ends[row] += dy.data[i] * first;
      ends[row + 1] += dy.data[i] * second;
    });
    return [dx, ends];
  },
};

/** Adds the sums of both columns to the gradient of `range`. */
function addEnds(t: Tracer, ends: Value, x: Value, range: Parameter): void {
  linearWeightGradient(t, ends, x, null, [], [[range, { first: 0, rows: 2 }]]);
}

/** Rows by their own range clip nothing: the gradient passes as it is. */
export const fakeQuantizeRowsRule = plainRule<FakeQuantizeRowsNode>(
  'fakeQuantizeRows',
  (t, { attributes, parameters: [range] }, { inputs: [x], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    if (!attributes.range) {
      if (sink.wants(0)) sink.add(0, dy);
      return;
    }
    const [dx, ends] = straightThroughGradient(t, x, dy, range, 'range');
    if (trains(range)) addEnds(t, ends, x, range);
    if (sink.wants(0)) sink.add(0, dx);
  },
);

export const fakeBinarizeRule = plainRule<FakeBinarizeNode>(
  'fakeBinarize',
  (t, { parameters: [range] }, { inputs: [x], gradients: [dy], sink, trains }) => {
    if (!dy) return;
    const [dx, ends] = straightThroughGradient(t, x, dy, range, 'sign');
    if (trains(range)) addEnds(t, ends, x, range);
    if (sink.wants(0)) sink.add(0, dx);
  },
);
