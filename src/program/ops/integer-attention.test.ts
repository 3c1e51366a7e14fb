import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runReference } from '../../backend/reference/interpreter.ts';
import { WasmEngine } from '../../backend/wasm/engine.ts';
import { probeFeatures } from '../../backend/wasm/probe.ts';
import { symbol } from '../../tensor/dim.ts';
import { Random } from '../../tensor/random.ts';
import type { MaskExpression } from '../mask/expression.ts';
import { constant, le, mul, query, sub, key as theKey } from '../mask/expression.ts';
import type { Program } from '../program.ts';
import { trace } from '../trace.ts';
import { attention, stacked } from './attention.ts';
import { type IntegerPrecision, integerAttention } from './integer-attention.ts';
import { padHead } from './linear.ts';

const PRECISIONS = ['int8-scores', 'int8'] as const;
const H = 2;

function programOf(
  precision: IntegerPrecision | null,
  D: number,
  mask: MaskExpression | null = null,
): Program {
  return trace(new Map(), (t) => {
    const qkv = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), padHead(D)]);
    const sources = { ...stacked(qkv, H), lengths: t.input('lengths', 'int32', [symbol('B')]) };
    const options = { heads: H, headSize: D, scale: 1 / Math.sqrt(D), mask };
    t.output(
      precision ? integerAttention(t, sources, { ...options, precision }) : attention(t, sources, options)[0],
    );
  });
}

/** Queries, keys and values of one sequence `[3H, 1, n, D′]`, by a function of part, row and column. */
function filledHeads(
  n: number,
  D: number,
  at: (part: number, row: number, d: number) => number,
): Float32Array {
  const pitch = padHead(D);
  return Float32Array.from({ length: 3 * H * n * pitch }, (_, i) => {
    const d = i % pitch;
    const row = Math.floor(i / pitch) % n;
    return d < D ? at(Math.floor(i / (pitch * n * H)), row, d) : 0;
  });
}

const run = (program: Program, qkv: Float32Array, n: number, levels: 128 | 256) =>
  runReference(program, new Map(), { qkv, lengths: [n] }, { B: 1, N: n }, levels)[0];

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}

const relativeL1 = (got: ArrayLike<number>, want: Float64Array): number =>
  want.reduce((sum, w, i) => sum + Math.abs(w - got[i]), 0) / want.reduce((sum, w) => sum + Math.abs(w), 0);

/** Keys and values as models have them: some columns far from zero, a first token unlike the others, peaked scores. */
function lifelike(n: number, D: number, seed: number): Float32Array {
  const random = new Random(seed);
  const offsets = [0, 1, 2].map((part) =>
    random.gaussians(D, 1).map((x, d) => (part > 0 && d % 7 === 3 ? 6 * x : x / 4)),
  );
  const noise = random.gaussians(3 * H * n * padHead(D));
  let i = 0;
  return filledHeads(n, D, (part, row, d) => {
    const x = offsets[part][d] + 1.4 * noise[i++];
    return row === 0 && part === 1 ? 2 * x : x;
  });
}

describe('integer attention against float attention', () => {
  const gaussian = (n: number, D: number, seed: number) => {
    const noise = new Random(seed).gaussians(3 * H * n * padHead(D));
    let i = 0;
    return filledHeads(n, D, () => noise[i++]);
  };
  it.each(
    [128, 256].flatMap((levels) => PRECISIONS.map((precision) => [precision, levels as 128 | 256] as const)),
  )('%s with %d levels points the same way: cosine at least 0.999', (precision, levels) => {
    for (const [n, D] of [
      [40, 32],
      [200, 64],
      [130, 20],
    ])
      for (const qkv of [gaussian(n, D, n), lifelike(n, D, n)]) {
        const want = run(programOf(null, D), qkv, n, levels);
        expect(cosine(run(programOf(precision, D), qkv, n, levels), want)).toBeGreaterThan(0.999);
      }
  });

  it('gives every value where there is but one key, and the mean where scores are alike', () => {
    const D = 8;
    const same = filledHeads(16, D, (part, row, d) => (part === 2 ? (row % 4) - 1.5 + d : 0));
    for (const precision of PRECISIONS) {
      const one = filledHeads(1, D, (part, _row, d) => part * 10 + d);
      for (const [i, y] of run(programOf(precision, D), one, 1, 128).entries())
        expect(Math.abs(y - 20 - (i % D))).toBeLessThan(1e-5);
      for (const [i, y] of run(programOf(precision, D), same, 16, 128).entries())
        expect(Math.abs(y - (i % D))).toBeLessThan(precision === 'int8' ? 0.05 : 1e-12);
    }
  });
});

describe('the mean of the keys', () => {
  const [n, D] = [64, 16];
  /** In sixteenths, and a power of two of them, so that float32 has every mean and difference exactly. */
  const dyadic = (offset: number) => {
    const noise = new Random(5).gaussians(3 * H * n * D).map((x) => Math.round(16 * x) / 16);
    let i = 0;
    return filledHeads(n, D, (part, _row, d) => noise[i++] + (part === 1 ? offset * (d - 5) : 0));
  };
  it.each(PRECISIONS)('%s: what all keys share changes nothing', (precision) => {
    const program = programOf(precision, D);
    const want = run(program, dyadic(0), n, 128);
    for (const offset of [1, 64, -512]) expect(run(program, dyadic(offset), n, 128)).toEqual(want);
  });

  it('costs several times less error than coding biased keys as they are', () => {
    // A key block of 64: all n keys have one scale. The paper's figure for such keys is 0.055 → 0.012 relative L1.
    const noise = new Random(8).gaussians(3 * H * n * D);
    let i = 0;
    const qkv = filledHeads(n, D, (part, _row, d) => noise[i++] + (part === 1 ? (d % 3) * 8 : 0));
    const want = run(programOf(null, D), qkv, n, 256);
    const centred = relativeL1(run(programOf('int8-scores', D), qkv, n, 256), want);
    // The same codes of keys without their mean taken off, through float attention.
    const coded = qkv.slice();
    for (let h = H; h < 2 * H; h++) {
      const head = coded.subarray(h * n * D, (h + 1) * n * D);
      const scale = head.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
      head.forEach((x, at) => {
        head[at] = Math.round(x / scale) * scale;
      });
    }
    const biased = relativeL1(run(programOf(null, D), coded, n, 256), want);
    expect(centred).toBeLessThan(0.02);
    expect(biased / centred).toBeGreaterThan(3);
  });
});

describe('padding', () => {
  it.each(PRECISIONS)('%s: neither its length nor what stands in it is seen', async (precision) => {
    const D = 12;
    const pitch = padHead(D);
    const near = le(mul(sub(theKey, query), sub(theKey, query)), constant(400));
    const features = { ...probeFeatures(), panel: 8 as const };
    const options = { features, tiles: { float32: 4, int8: 4 }, threads: 1 };
    const engines = await Promise.all(
      [null, near].map((mask) => WasmEngine.create(programOf(precision, D, mask), new Map(), options)),
    );
    for (const engine of engines) engine.loader(new Map()).finish();
    const shapes = fc.record({ n: fc.integer({ min: 1, max: 140 }), more: fc.integer({ min: 1, max: 70 }) });
    await fc.assert(
      fc.asyncProperty(shapes, async ({ n, more }) => {
        const noise = new Random(n).gaussians(3 * H * n * pitch);
        let i = 0;
        const alone = filledHeads(n, D, () => noise[i++]);
        const N = n + more;
        const padded = filledHeads(N, D, (part, row, d) => (part + row + d) * 1e5);
        for (let h = 0; h < 3 * H; h++)
          padded.set(alone.subarray(h * n * pitch, (h + 1) * n * pitch), h * N * pitch);
        for (const engine of engines) {
          const lengths = Int32Array.of(n);
          const [want] = await engine.run({ B: 1, N: n }, { qkv: alone, lengths });
          const [got] = await engine.run({ B: 1, N }, { qkv: padded, lengths });
          expect(got.subarray(0, want.length)).toEqual(want);
          expect(got.every(Number.isFinite)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
    for (const engine of engines) engine.dispose();
  });
});

it('refuses sources that do not belong together', () => {
  expect(() =>
    trace(new Map(), (t) => {
      const qkv = t.input('qkv', 'float32', [6, symbol('B'), symbol('N'), 8]);
      t.output(integerAttention(t, stacked(qkv, 2), { heads: 2, headSize: 20, scale: 1, precision: 'int8' }));
    }),
  ).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }));
});
