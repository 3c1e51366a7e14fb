import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { runReference } from '../../backend/reference/interpreter.ts';
import { WasmEngine } from '../../backend/wasm/engine.ts';
import { probeFeatures } from '../../backend/wasm/probe.ts';
import { applyRecipe } from '../../compress/index.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { stacked } from '../../program/ops/attention.ts';
import { type FastWeightsOptions, fastWeights } from '../../program/ops/fast-weights.ts';
import type { FeatureMap } from '../../program/ops/feature-maps.ts';
import { padHead } from '../../program/ops/linear.ts';
import { linearAttention } from '../../program/ops/linear-attention.ts';
import { trace } from '../../program/trace.ts';
import { loadModel } from '../../runtime/index.ts';
import { encode, type Weight } from '../../tensor/codec.ts';
import { symbol } from '../../tensor/dim.ts';
import { Random } from '../../tensor/random.ts';
import { randomDirections } from '../initialise/orthogonal.ts';
import type { Mechanism } from '../mechanism.ts';
import cosformer from './cosformer.ts';
import fastWeightsMechanism from './fast-weights.ts';
import hedgehog from './hedgehog.ts';
import performer from './performer.ts';
import reluLinear from './relu-linear.ts';

const H = 2;
type Op = { map: FeatureMap } | Omit<FastWeightsOptions, 'heads' | 'headSize'>;

/** A program of one op over queries, keys and values, with W `[1, m, D′]` where it asks for one. */
function program(op: Op, D: number, W: Float32Array | null) {
  const pitch = padHead(D);
  const weights = new Map<string, Weight>();
  if (W) weights.set('w', encode('float32', [1, W.length / pitch, pitch], W));
  const traced = trace(weights, (t) => {
    const qkv = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), pitch]);
    const sources = { ...stacked(qkv, H), lengths: t.input('lengths', 'int32', [symbol('B')]) };
    const size = { heads: H, headSize: D };
    const features = W ? t.parameter('w') : undefined;
    t.output(
      t.stage('attention', () =>
        'map' in op
          ? linearAttention(t, sources, { ...size, map: op.map, features })
          : fastWeights(t, sources, { ...size, ...op }),
      ),
    );
  });
  return { program: traced, weights };
}

type Runnable = ReturnType<typeof program>;
const inputs = (qkv: Float32Array, lengths: readonly number[]) => ({
  qkv,
  lengths: Int32Array.from(lengths),
});

const reference = ({ program, weights }: Runnable, qkv: Float32Array, lengths: number[], N: number) =>
  runReference(program, weights, inputs(qkv, lengths), { B: lengths.length, N }, 256)[0];

async function wasm({ program, weights }: Runnable, qkv: Float32Array, lengths: number[], N: number) {
  const features = { ...probeFeatures(), panel: 8 } as const;
  const engine = await WasmEngine.create(program, weights, {
    features,
    tiles: { float32: 4, int8: 4 },
    threads: 1,
  });
  const loader = engine.loader(weights);
  for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
  loader.finish();
  const [out] = await engine.run({ B: lengths.length, N }, inputs(qkv, lengths));
  engine.dispose();
  return out;
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce(
    (most, x, i) => Math.max(most, Math.abs(x - b[i])),
    a.length === b.length ? 0 : Infinity,
  );

const directions = (seed: number, m: number, D: number): Float32Array => {
  const rows = randomDirections(new Random(seed), m, D, true);
  return Float32Array.from({ length: m * padHead(D) }, (_, i) => {
    const [row, column] = [Math.floor(i / padHead(D)), i % padHead(D)];
    return column < D ? rows[row * D + column] : 0;
  });
};

/** `[3H, B, N, D′]` of Gaussians with zeros past D. */
function stack(random: Random, B: number, N: number, D: number, deviation = 0.5): Float32Array {
  const pitch = padHead(D);
  return random.gaussians(3 * H * B * N * pitch, deviation).map((x, i) => (i % pitch < D ? x : 0));
}

const OPS: [string, Op][] = [
  ['performer', { map: { kind: 'performer', epsilon: 1e-6 } }],
  ['hedgehog', { map: { kind: 'hedgehog', normalise: false } }],
  ['hedgehog of softmaxes', { map: { kind: 'hedgehog', normalise: true } }],
  ['relu', { map: { kind: 'relu' } }],
  ['cosformer', { map: { kind: 'cosformer', maxLength: 128 } }],
  ['fast weights', { feature: 'elu', beta: 0.5, causal: false }],
  ['causal fast weights', { feature: 'relu', beta: 1, causal: true }],
];
const projected = (op: Op) => 'map' in op && (op.map.kind === 'performer' || op.map.kind === 'hedgehog');
const build = (op: Op, D: number) => program(op, D, projected(op) ? directions(2, 16, D) : null);

describe.each(OPS)('%s', (_, op) => {
  it('does not see what is padded, in any shape', async () => {
    const shapes = fc.record({
      D: fc.constantFrom(3, 8, 13),
      length: fc.integer({ min: 0, max: 60 }),
      extra: fc.integer({ min: 0, max: 60 }),
      seed: fc.nat(1e6),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async ({ D, length, extra, seed }) => {
        const random = new Random(seed);
        const [N, pitch] = [length + extra + 1, padHead(D)];
        const padded = stack(random, 1, N, D);
        // What stands in padded rows is wild.
        padded.forEach((x, i) => {
          if (Math.floor(i / pitch) % N >= length) padded[i] = 5 * x;
        });
        const rows = Math.max(length, 1);
        const tight = new Float32Array(3 * H * rows * pitch);
        for (let h = 0; h < 3 * H; h++)
          tight.set(padded.subarray(h * N * pitch, (h * N + length) * pitch), h * rows * pitch);
        const made = build(op, D);
        const [long, short] = [
          await wasm(made, padded, [length], N),
          await wasm(made, tight, [length], rows),
        ];
        expect(long.every(Number.isFinite)).toBe(true);
        expect(long.slice(0, length * H * D)).toEqual(short.slice(0, length * H * D));
        if (length === 0) expect(long.every((x) => x === 0)).toBe(true);
        const truth = reference(made, padded, [length], N);
        expect(worst(long.subarray(0, length * H * D), truth.subarray(0, length * H * D))).toBeLessThan(2e-4);
      }),
      { numRuns: 15, seed: 42 },
    );
  });

  it('stays finite, and within the values, at norms of a thousand and of 1e15', async () => {
    const [N, D] = [50, 16];
    for (const norm of [1e3, 1e15]) {
      const qkv = stack(new Random(3), 1, N, D, 1).map((x, i) => (i < 2 * H * N * D ? x * norm : x));
      const out = await wasm(build(op, D), qkv, [N], N);
      expect(out.every(Number.isFinite)).toBe(true);
      // Weights are non-negative and add up to 1; a memory holds sums of what was written.
      if ('map' in op) expect(out.every((x) => Math.abs(x) < 5)).toBe(true);
    }
  });
});

describe('feature maps', () => {
  /** The formula as papers write it: no stabiliser, no epsilon. */
  it.each<[string, FeatureMap, (u: number[], half: number) => number[]]>([
    ['performer', { kind: 'performer', epsilon: 0 }, (u, half) => u.map((v) => Math.exp(v - half))],
    [
      'hedgehog',
      { kind: 'hedgehog', normalise: false },
      (u) => [...u.map((v) => Math.exp(v)), ...u.map((v) => Math.exp(-v))],
    ],
  ])('%s is not changed by its stabilisers', (kind, map, features) => {
    const [N, D, m] = [30, 8, 16];
    const W = directions(4, m, D);
    const qkv = stack(new Random(5), 1, N, D);
    const got = reference(program({ map }, D, W), qkv, [N], N);
    const phi = (part: number, n: number) => {
      const scale = kind === 'performer' ? D ** -0.25 : 1;
      const row = [...qkv.subarray((part * H * N + n) * D, (part * H * N + n + 1) * D)].map((x) => x * scale);
      const u = Array.from({ length: m }, (_, f) => row.reduce((sum, x, d) => sum + x * W[f * D + d], 0));
      return features(u, row.reduce((sum, x) => sum + x * x, 0) / 2);
    };
    const keys = Array.from({ length: N }, (_, n) => phi(1, n));
    for (let n = 0; n < N; n++) {
      const query = phi(0, n);
      const weights = keys.map((key) => key.reduce((sum, x, f) => sum + x * query[f], 0));
      const sum = weights.reduce((a, b) => a + b);
      for (let d = 0; d < D; d++) {
        const want = weights.reduce((y, w, k) => y + (w / sum) * qkv[(2 * H * N + k) * D + d], 0);
        expect(got[n * H * D + d]).toBeCloseTo(want, 10);
      }
    }
  });

  it('of performer come closer to softmax attention as they grow in number', async () => {
    const [N, D] = [60, 8];
    const qkv = stack(new Random(6), 1, N, D, 0.5);
    const truth = (n: number, d: number) => {
      const weights = Array.from({ length: N }, (_, k) => {
        let score = 0;
        for (let c = 0; c < D; c++) score += qkv[n * D + c] * qkv[(H * N + k) * D + c];
        return Math.exp(score / Math.sqrt(D));
      });
      const sum = weights.reduce((a, b) => a + b);
      return weights.reduce((y, w, k) => y + (w / sum) * qkv[(2 * H * N + k) * D + d], 0);
    };
    const errors: number[] = [];
    for (const m of [16, 1024]) {
      let sum = 0;
      const draws = 6;
      for (let seed = 0; seed < draws; seed++) {
        const made = program({ map: { kind: 'performer', epsilon: 1e-6 } }, D, directions(seed, m, D));
        const out = await wasm(made, qkv, [N], N);
        for (let n = 0; n < N; n++)
          for (let d = 0; d < D; d++) sum += (out[n * H * D + d] - truth(n, d)) ** 2;
      }
      errors.push(Math.sqrt(sum / (draws * N * D)));
    }
    // 64 times the features: an eighth of the error, give or take what six draws of each vary by.
    expect(errors[0] / errors[1]).toBeGreaterThan(5);
    expect(errors[1]).toBeLessThan(0.02);
  });

  it('of relu with nothing in common give a row of 0', async () => {
    const [N, D] = [5, 8];
    const qkv = stack(new Random(7), 1, N, D).map((x, i) => (i < 2 * H * N * D ? -Math.abs(x) : x));
    for (const op of [OPS[3][1], OPS[4][1]])
      expect((await wasm(build(op, D), qkv, [N], N)).every((x) => x === 0)).toBe(true);
  });

  it('of cosformer weigh a pair by the cosine of its distance', () => {
    const [N, D] = [3, 8];
    const qkv = new Float32Array(3 * H * N * D);
    qkv.fill(1, 0, 2 * H * N * D);
    for (let k = 0; k < N; k++) qkv[(2 * H * N + k) * D + k] = 1;
    const out = reference(program({ map: { kind: 'cosformer', maxLength: 4 } }, D, null), qkv, [N], N);
    const weights = [0, 1, 2].map((k) => Math.cos((Math.PI * k) / 8));
    const sum = weights.reduce((a, b) => a + b);
    weights.forEach((w, k) => {
      expect(out[k]).toBeCloseTo(w / sum, 12);
    });
  });
});

describe('fast weights', () => {
  const D = 8;
  /** One head's rows into the stack; the other heads stay 0. */
  const fill = (N: number, parts: readonly (readonly (readonly number[])[])[]) => {
    const qkv = new Float32Array(3 * H * N * D);
    parts.forEach((rows, part) => {
      rows.forEach((row, n) => {
        qkv.set(row, (part * H * N + n) * D);
      });
    });
    return qkv;
  };

  it.each([false, true])('recall what orthonormal keys wrote with β = 1, causal: %s', async (causal) => {
    const random = new Random(9);
    const keys = Array.from({ length: D }, (_, i) => Array.from({ length: D }, (_, d) => (d === i ? 3 : -1)));
    const values = keys.map(() => [...random.gaussians(D)]);
    const made = program({ feature: 'relu', beta: 1, causal }, D, null);
    const out = await wasm(made, fill(D, [keys, keys, values]), [D], D);
    values.forEach((row, n) => {
      row.forEach((x, d) => {
        expect(out[n * H * D + d]).toBe(x);
      });
    });
  });

  it('replace what a key held before, where a sum would add to it', () => {
    const key = [1, 0, 0, 0, 0, 0, 0, 0];
    const made = program({ feature: 'relu', beta: 1, causal: true }, D, null);
    const out = reference(
      made,
      fill(2, [
        [key, key],
        [key, key],
        [Array(D).fill(1), Array(D).fill(5)],
      ]),
      [2],
      2,
    );
    expect([out[0], out[H * D]]).toEqual([1, 5]);
  });

  it('equal a loop that takes one token at a time', async () => {
    const [N, beta] = [70, 0.7];
    const qkv = stack(new Random(10), 1, N, D, 1);
    const out = await wasm(program({ feature: 'elu', beta, causal: true }, D, null), qkv, [N], N);
    const phi = (part: number, n: number) => {
      const row = [...qkv.subarray((part * H * N + n) * D, (part * H * N + n + 1) * D)];
      const raw = row.map((x) => (x > 0 ? x + 1 : Math.exp(x)));
      return raw.map((x) => x / Math.hypot(...raw));
    };
    const memory = Array.from({ length: D }, () => Array<number>(D).fill(0));
    const recall = (key: number[]) =>
      memory[0].map((_, d) => key.reduce((sum, x, i) => sum + x * memory[i][d], 0));
    for (let n = 0; n < N; n++) {
      const key = phi(1, n);
      const known = recall(key);
      for (let i = 0; i < D; i++)
        for (let d = 0; d < D; d++) memory[i][d] += beta * key[i] * (qkv[(2 * H * N + n) * D + d] - known[d]);
      recall(phi(0, n)).forEach((x, d) => {
        expect(Math.abs(out[n * H * D + d] - x)).toBeLessThan(1e-5);
      });
    }
  });
});

describe('a model', () => {
  const TEXTS = ['a small model', 'runs in the page and node alike', '', 'quick brown fox'];
  const read = async ({ weights }: Model) => {
    const out = new Map<string, Weight>();
    for (const name of weights.specs.keys()) out.set(name, await weights.read(name));
    return out;
  };
  const cases = [performer, hedgehog, reluLinear, cosformer, fastWeightsMechanism].flatMap(
    ({ kind, examples }: Mechanism) =>
      examples.map(
        (given) => [`${kind} ${JSON.stringify(given)}`, { step: 'attention', kind, ...given }] as const,
      ),
  );

  it.each(cases)('with %s embeds as the reference does', async (_, step) => {
    const model = await applyRecipe(madeEncoder(), [step]);
    const traced = await traceEncoder(model.config, model.weights.specs);
    const weights = await read(model);
    const loaded = await loadModel(model);
    const got = await loaded.embed(TEXTS);
    for (const [i, text] of TEXTS.entries()) {
      const ids = await loaded.tokenize(text);
      const N = ids.length;
      const given = { ids, lengths: [N], types: ids.map(() => 0), rows: [0] };
      const [want] = runReference(traced, weights, given, { B: 1, N, P: 1 }, 256);
      expect(got[i].every(Number.isFinite)).toBe(true);
      expect(worst(got[i], want)).toBeLessThan(1e-4);
    }
    loaded.dispose();
  });
});
