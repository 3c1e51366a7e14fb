import {
  attentionScoreLoss,
  contrastive,
  cosineDistance,
  crossEntropy,
  meanSquaredError,
  type PairSource,
  relationLoss,
  softCrossEntropy,
} from '../../src/program/gradient/losses.ts';
import { matrixProduct, type ProductForm } from '../../src/program/gradient/matrix-product.ts';
import { padHead } from '../../src/program/ops/linear.ts';
import { l2Normalize } from '../../src/program/ops/normalize.ts';
import type { Value } from '../../src/program/program.ts';
import type { Tracer } from '../../src/program/trace.ts';
import { symbol } from '../../src/tensor/dim.ts';
import type { Random } from '../../src/tensor/random.ts';
import { type BuiltCase, CaseBuilder } from '../conformance/case.ts';

interface OpCase {
  readonly op: string;
  readonly name: string;
  build(random: Random): BuiltCase;
}

const [B, N] = [symbol('B'), symbol('N')];
const LENGTHS = Int32Array.of(4, 0, 5);

/** Two tensors `[3, 5, columns]` of 3 sequences, of which the second is empty. */
const pair = (
  op: string,
  name: string,
  columns: number,
  loss: (t: Tracer, a: Value, b: Value, lengths: Value) => Value,
): OpCase => ({
  op,
  name: `${name}, ${columns} columns`,
  build: (random) =>
    new CaseBuilder(random, { B: 3, N: 5 })
      .data('a', random.gaussians(15 * columns))
      .data('b', random.gaussians(15 * columns))
      .data('lengths', LENGTHS)
      .finish((t, input) => [
        loss(t, input('a', [B, N, columns]), input('b', [B, N, columns]), input('lengths', [B])),
      ]),
});

const classified = (columns: number, smoothing: number): OpCase => ({
  op: 'crossEntropy',
  name: `${columns} classes, smoothing ${smoothing}`,
  build: (random) =>
    new CaseBuilder(random, { B: 7 })
      .data('a', random.gaussians(7 * columns, 3))
      .data('labels', random.integers(7, columns).fill(-1, 2, 3))
      .finish((t, input) => [crossEntropy(t, input('a', [B, columns]), input('labels', [B]), { smoothing })]),
});

const product = (form: ProductForm, P: number, K: number, Q: number): OpCase => ({
  op: 'matrixProduct',
  name: `${form}, ${P} × ${K} × ${Q}`,
  build(random) {
    const a = form === 'aᵀ·b' ? [K, P] : [P, K];
    const b = form === 'a·bᵀ' ? [Q, K] : [K, Q];
    return new CaseBuilder(random, {})
      .data('a', random.gaussians(P * K))
      .data('b', random.gaussians(K * Q))
      .finish((t, input) => [matrixProduct(t, input('a', a), input('b', b), form)]);
  },
});

const WIDTHS = [1, 3, 8, 21];

interface Side {
  readonly heads: number;
  readonly size: number;
  /** Names of queries and keys: equal ones are one value. */
  readonly names: readonly [string, string];
}

/** Rows by head of a student and a teacher, 2 sequences of 70 rows at most. */
const pairs = (
  name: string,
  student: Side,
  teacher: Side,
  loss: (t: Tracer, student: PairSource, teacher: PairSource, lengths: Value) => Value,
  rows = 70,
): OpCase => ({
  op: 'pairLoss',
  name,
  build(random) {
    const builder = new CaseBuilder(random, { B: 2, N: rows }).data(
      'lengths',
      Int32Array.of(rows, Math.ceil(rows / 2) - 1),
    );
    const sizes = new Map<string, { heads: number; size: number }>();
    for (const { heads, size, names } of [student, teacher])
      for (const n of names) sizes.set(n, { heads, size });
    for (const [n, { heads, size }] of sizes)
      builder.data(n, padded(random.gaussians((heads + 1) * 2 * rows * padHead(size)), size));
    return builder.finish((t, input) => {
      const made = new Map(
        [...sizes].map(([n, { heads, size }]) => [n, input(n, [heads + 1, B, N, padHead(size)])]),
      );
      const source = ({ heads, size, names: [q, k] }: Side): PairSource => ({
        heads,
        headSize: size,
        queries: { value: made.get(q)!, from: 1 },
        keys: { value: made.get(k)!, from: q === k ? 1 : 0 },
      });
      return [loss(t, source(student), source(teacher), input('lengths', [B]))];
    });
  },
});

/** Columns that only pad a head are 0. */
const padded = (x: Float32Array, size: number): Float32Array =>
  x.map((v, i) => (i % padHead(size) < size ? v : 0));

export const lossCases: readonly OpCase[] = [
  ...WIDTHS.flatMap((columns) => [
    pair('squaredError', 'all rows', columns, (t, a, b) => meanSquaredError(t, a, b)),
    pair('squaredError', 'by lengths', columns, (t, a, b, lengths) => meanSquaredError(t, a, b, lengths)),
    pair('cosineDistance', 'all rows', columns, (t, a, b) => cosineDistance(t, a, b)),
    pair('cosineDistance', 'by lengths', columns, (t, a, b, lengths) => cosineDistance(t, a, b, lengths)),
  ]),
  ...WIDTHS.flatMap((columns) => [
    pair('softCrossEntropy', 'by lengths', columns, (t, a, b, lengths) =>
      softCrossEntropy(t, a, b, { temperature: 1.7, lengths }),
    ),
    pair('softCrossEntropy', 'divergence', columns, (t, a, b) =>
      softCrossEntropy(t, a, b, { temperature: 0.5, divergence: true }),
    ),
  ]),
  ...[2, 3, 9].flatMap((columns) => [classified(columns, 0), classified(columns, 0.2)]),
  ...(['a·bᵀ', 'a·b', 'aᵀ·b'] as const).flatMap((form) => [
    product(form, 5, 3, 7),
    product(form, 17, 33, 16),
    product(form, 1, 8, 1),
  ]),
  pairs(
    'scores, heads of 8 and 20',
    { heads: 2, size: 8, names: ['a', 'b'] },
    { heads: 2, size: 20, names: ['tq', 'tk'] },
    attentionScoreLoss,
  ),
  pairs(
    'scores, 7 rows',
    { heads: 1, size: 5, names: ['a', 'b'] },
    { heads: 1, size: 5, names: ['tq', 'tk'] },
    attentionScoreLoss,
    7,
  ),
  pairs(
    'relations of queries and keys',
    { heads: 2, size: 8, names: ['a', 'b'] },
    { heads: 2, size: 16, names: ['tq', 'tk'] },
    (t, ...sides) => relationLoss(t, 2, ...sides),
  ),
  pairs(
    'relations of values, heads taken together',
    { heads: 4, size: 8, names: ['a', 'a'] },
    { heads: 6, size: 12, names: ['tq', 'tq'] },
    (t, ...sides) => relationLoss(t, 2, ...sides),
  ),
  {
    op: 'matrixProduct',
    name: 'contrastive',
    build: (random) =>
      new CaseBuilder(random, { B: 6 })
        .data('a', random.gaussians(6 * 12))
        .data('b', random.gaussians(6 * 12))
        .finish((t, input) => [
          contrastive(t, l2Normalize(t, input('a', [B, 12])), l2Normalize(t, input('b', [B, 12])), {
            temperature: 0.3,
          }),
        ]),
  },
];
