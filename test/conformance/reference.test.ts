import { describe, expect, it } from 'vitest';
import { runReference } from '../../src/backend/reference/interpreter.ts';
import { TRAINING_OPS } from '../../src/program/gradient/definitions.ts';
import { evaluateMask, key, le, type MaskExpression, query } from '../../src/program/mask/expression.ts';
import { type Activation, activate, erfc } from '../../src/program/ops/activation.ts';
import { attention, stacked } from '../../src/program/ops/attention.ts';
import { embedding } from '../../src/program/ops/embedding.ts';
import { layerNorm } from '../../src/program/ops/layer-norm.ts';
import { linear } from '../../src/program/ops/linear.ts';
import { l2Normalize, softmax } from '../../src/program/ops/normalize.ts';
import { pool } from '../../src/program/ops/pool.ts';
import { quantizeRows } from '../../src/program/ops/quantize-rows.ts';
import { OPS } from '../../src/program/ops/registry.ts';
import { selectRows } from '../../src/program/ops/select-rows.ts';
import { Random } from '../../src/tensor/random.ts';
import { CaseBuilder } from './case.ts';
import { buildCase, CASES } from './cases.ts';
import { compare } from './check.ts';

const builder = (bindings = {}) => new CaseBuilder(new Random(1), bindings);
const run = (built: ReturnType<CaseBuilder['finish']>, levels: 128 | 256 = 256): number[][] =>
  runReference(built.program, built.weights, built.inputs, built.bindings, levels).map((y) => [...y]);

function expectClose(got: ArrayLike<number>, want: readonly number[], tolerance = 1e-12): void {
  expect(got).toHaveLength(want.length);
  for (let i = 0; i < want.length; i++) expect(Math.abs(got[i] - want[i])).toBeLessThanOrEqual(tolerance);
}

const rows = (values: number[], columns: number) =>
  builder()
    .data('x', Float32Array.from(values))
    .weight('scale', 'float32', [columns], Float32Array.from([2, 1, 1, 0.5].slice(0, columns)))
    .weight('bias', 'float32', [columns], Float32Array.from([0, 1, 0, -1].slice(0, columns)));

describe('hand-computed values', () => {
  // Abramowitz and Stegun 1964, table 7.1, and DLMF 7.
  it.each([
    [0.1, 0.112462916],
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [1.5, 0.9661051465],
    [2, 0.995322265],
    [2.4, 0.9993114861],
    [3, 0.9999779095],
  ])('erf(%d) is %d', (x, erf) => {
    expect(1 - erfc(x)).toBeCloseTo(erf, 9);
    expect(erfc(-x) - 1).toBeCloseTo(erf, 9);
  });

  it('erfc keeps its relative accuracy in the tail', () => {
    expect(erfc(4) / 1.541725790028002e-8).toBeCloseTo(1, 12);
    expect(erfc(10) / 2.088487583762545e-45).toBeCloseTo(1, 12);
    expect(Math.abs(erfc(2.5 - 1e-12) / erfc(2.5 + 1e-12) - 1)).toBeLessThan(1e-10);
    expect(erfc(0)).toBe(1);
    expect(erfc(NaN)).toBeNaN();
  });

  it.each<[Activation, number, number]>([
    ['gelu', 1, 0.8413447460685429],
    ['gelu', -1, -0.15865525393145707],
    ['gelu', 2, 1.9544997361036416],
    ['gelu', -1e4, 0],
    ['gelu', 1e4, 1e4],
    ['geluTanh', 1, 0.8411919906082768],
    ['geluTanh', -1, -0.15880800939172324],
    ['relu', -2, 0],
    ['relu', 2, 2],
    ['tanh', 0.5, 0.4621171572600098],
    ['none', -3, -3],
  ])('%s(%d) is %d', (kind, x, y) => {
    expect(activate(kind, x)).toBeCloseTo(y, 12);
    expect(activate(kind, NaN)).toBeNaN();
  });

  it('softmax of [0, ln 2, ln 4]', () => {
    const built = rows([0, Math.log(2), Math.log(4)], 3).finish((t, input) => [
      softmax(t, input('x', [1, 3])),
    ]);
    expectClose(run(built)[0], [1 / 7, 2 / 7, 4 / 7], 1e-7);
  });

  it('LayerNorm of [1, 2, 3, 4]', () => {
    const built = rows([1, 2, 3, 4], 4).finish((t, input) => [
      layerNorm(t, input('x', [1, 4]), t.parameter('scale'), t.parameter('bias'), 0),
    ]);
    const s = Math.sqrt(1.25);
    expectClose(run(built)[0], [(2 * -1.5) / s, 1 - 0.5 / s, 0.5 / s, 0.75 / s - 1]);
  });

  it('lengths 5 and 0 of an L2 normalisation', () => {
    const built = rows([3, 4, 0, 0], 2).finish((t, input) => [l2Normalize(t, input('x', [2, 2]))]);
    expectClose(run(built)[0], [0.6, 0.8, 0, 0]);
  });

  it('a linear with bias, activation and residual', () => {
    const built = builder()
      .data('x', Float32Array.from([1, 2, -1, 1]))
      .data('r', Float32Array.from([10, 20, 30, 40]))
      .weight('w', 'float32', [2, 2], Float32Array.from([1, 2, -3, 1]))
      .weight('b', 'float32', [2], Float32Array.from([0.5, 0.25]))
      .finish((t, input) => [
        linear(t, input('x', [2, 2]), [t.parameter('w')], [t.parameter('b')], {
          activation: 'relu',
          residual: input('r', [2, 2]),
        }),
      ]);
    expect(run(built)[0]).toEqual([15.5, 20, 31.5, 44.25]);
  });

  it('a linear laid out by head, its padding zero', () => {
    const built = builder()
      .data('x', Float32Array.from([1, 10]))
      .weight('w', 'float32', [4, 1], Float32Array.from([1, 2, 3, 4]))
      .weight('b', 'float32', [4], new Float32Array(4))
      .finish((t, input) => [
        linear(t, input('x', [1, 2, 1]), [t.parameter('w')], [t.parameter('b')], {
          heads: { size: 2 },
        }),
      ]);
    const zeros = [0, 0, 0, 0, 0, 0];
    const wanted = [1, 2, ...zeros, 10, 20, ...zeros, 3, 4, ...zeros, 30, 40, ...zeros];
    expect(run(built)[0]).toEqual(wanted);
  });

  it('quantised rows with a zero point, and one of zeros', () => {
    const built = rows([-1, 0, 1.55, 0, 0, 0], 3).finish((t, input) => [
      ...quantizeRows(t, input('x', [2, 3])),
    ]);
    const [codes, scales] = run(built);
    expect(codes.slice(0, 4)).toEqual([0, 100, 255, 0]);
    expect(codes.slice(16, 20)).toEqual([0, 0, 0, 0]);
    expectClose(scales, [0.01, 1, 1e-30, 0], 1e-7);
    expect(run(built, 128)[0].slice(0, 3)).toEqual([0, 50, 127]);
  });

  it('an int8 linear within the error of its two quantisations', () => {
    const random = new Random(3);
    const [K, C] = [128, 16];
    const x = random.gaussians(K);
    const w = random.gaussians(C * K);
    const make = (codec: 'float32' | 'int8') =>
      builder()
        .data('x', x)
        .weight('w', codec, [C, K], w)
        .weight('b', 'float32', [C], new Float32Array(C))
        .finish((t, input) => [linear(t, input('x', [1, K]), [t.parameter('w')], [t.parameter('b')])]);
    const [exact, rounded] = [run(make('float32'))[0], run(make('int8'))[0]];
    const error = Math.hypot(...exact.map((y, i) => y - rounded[i])) / Math.hypot(...exact);
    expect(error).toBeGreaterThan(0.001);
    expect(error).toBeLessThan(0.02);
  });

  it('an embedding of words, wrapped positions and token types', () => {
    const built = builder()
      .data('ids', Int32Array.from([1, 0, 1]))
      .data('types', Int32Array.from([0, 1, 1]))
      .weight('word', 'float32', [2, 2], Float32Array.from([1, 2, 3, 4]))
      .weight('position', 'float32', [2, 2], Float32Array.from([10, 20, 30, 40]))
      .weight('type', 'float32', [2, 2], Float32Array.from([100, 200, 300, 400]))
      .finish((t, input) => [
        embedding(
          t,
          input('ids', [1, 3]),
          input('types', [1, 3]),
          { word: t.parameter('word'), position: t.parameter('position'), tokenType: t.parameter('type') },
          2,
        ),
      ]);
    expect(run(built)[0]).toEqual([116, 228, 332, 444, 316, 428]);
  });

  it.each([
    ['mean', [2, 3, 0, 0]],
    ['first', [1, 2, 0, 0]],
    ['max', [3, 4, 0, 0]],
    ['sqrtMean', [4 / Math.SQRT2, 6 / Math.SQRT2, 0, 0]],
  ] as const)('%s pooling over a length, and over none', (pooling, wanted) => {
    const built = builder()
      .data('x', Float32Array.from([1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 9, 9]))
      .data('lengths', Int32Array.from([2, 0]))
      .finish((t, input) => [pool(t, input('x', [2, 3, 2]), input('lengths', [2]), pooling)]);
    expectClose(run(built)[0], [...wanted]);
  });

  it('rows picked within their own sequence', () => {
    const built = builder()
      .data('x', Float32Array.from([1, 2, 3, 4]))
      .data('rows', Int32Array.from([1, 1, 0, 1]))
      .finish((t, input) => [selectRows(t, input('x', [2, 2, 1]), input('rows', [2, 2]))]);
    expect(run(built)[0]).toEqual([2, 2, 3, 4]);
  });
});

/** Softmax(QKᵀ·scale)V by whole matrices, with −∞ where a pair is masked. */
function naiveAttention(
  qkv: Float32Array,
  lengths: readonly number[],
  [B, N, H, D]: number[],
  mask: MaskExpression | null,
): number[] {
  const at = (part: number, h: number, b: number, n: number, d: number) =>
    qkv[((((part * H + h) * B + b) * N + n) << 3) + d];
  const out: number[] = Array(B * N * H * D).fill(0);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let q = 0; q < N; q++) {
        const powers = Array.from({ length: N }, (_, k) => {
          if (k >= lengths[b] || (mask && !evaluateMask(mask, { h, q, k }))) return 0;
          let score = 0;
          for (let d = 0; d < D; d++) score += at(0, h, b, q, d) * at(1, h, b, k, d);
          return Math.exp(score / Math.sqrt(D));
        });
        const sum = powers.reduce((x, y) => x + y);
        for (let d = 0; d < D && sum > 0; d++)
          out[((b * N + q) * H + h) * D + d] = powers.reduce((y, p, k) => y + p * at(2, h, b, k, d), 0) / sum;
      }
  return out;
}

describe('attention', () => {
  it.each<[string, MaskExpression | null, number[]]>([
    ['dense', null, [9, 9]],
    ['with lengths', null, [4, 0]],
    ['causal', le(key, query), [9, 5]],
  ])('%s agrees with whole matrices', (_name, mask, lengths) => {
    const size = [2, 9, 3, 8];
    const [B, N, H, D] = size;
    const qkv = new Random(5).gaussians(3 * H * B * N * D);
    const built = builder()
      .data('qkv', qkv)
      .data('lengths', Int32Array.from(lengths))
      .finish((t, input) => [
        ...attention(
          t,
          { ...stacked(input('qkv', [3 * H, B, N, D]), H), lengths: input('lengths', [B]) },
          { heads: H, headSize: D, scale: 1 / Math.sqrt(D), mask },
        ),
      ]);
    expectClose(run(built)[0], naiveAttention(qkv, lengths, size, mask));
  });
});

describe('every conformance case', () => {
  it('has a name of its own, and every op has cases', () => {
    const names = CASES.map((c) => `${c.op}/${c.name}`);
    expect(new Set(names).size).toBe(names.length);
    // Those of training have cases of their own, in test/gradient.
    const training = new Set<string>(TRAINING_OPS.map(({ kind }) => kind));
    const without = [...OPS.keys()].filter((op) => !training.has(op) && !CASES.some((c) => c.op === op));
    expect(without).toEqual([]);
  });

  it.each(CASES.map((c) => [`${c.op}/${c.name}`, c] as const))('%s', (_name, c) => {
    const built = buildCase(c);
    const again = buildCase(c);
    expect(again.inputs).toEqual(built.inputs);
    expect(built.program.nodes.at(-1)!.kind).toBe(c.op);
    for (const levels of [128, 256] as const) {
      const outputs = runReference(built.program, built.weights, built.inputs, built.bindings, levels);
      expect(outputs.every((y) => y.every(Number.isFinite))).toBe(c.finite);
      for (const y of outputs) {
        expect(y.length).toBeGreaterThan(0);
        expect(compare(OPS.get(c.op)!.budget, Float32Array.from(y), y)).toMatchObject({ ok: true });
      }
    }
  });
});
