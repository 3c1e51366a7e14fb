import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runReference } from '../backend/reference/interpreter.ts';
import { WasmEngine } from '../backend/wasm/engine.ts';
import { probeFeatures } from '../backend/wasm/probe.ts';
import type { MaskExpression } from '../program/mask/expression.ts';
import { padHead } from '../program/ops/linear.ts';
import { ROTARY_LAYOUTS, rotary } from '../program/ops/rotary.ts';
import { trace } from '../program/trace.ts';
import { encode, type Weight } from '../tensor/codec.ts';
import { symbol } from '../tensor/dim.ts';
import { Random } from '../tensor/random.ts';
import type { AttentionContext, InitialiseContext } from './mechanism.ts';
import dense from './mechanisms/dense.ts';
import { parseOptions } from './options.ts';
import { attendPairs, type PairOptions, pairOptions, pairParts } from './pairs.ts';
import { local } from './pattern/window.ts';

const [H, D] = [3, 12];
const PITCH = padHead(D);
const layer = { index: 0, inputSize: H * D, heads: H, headSize: D, maxLength: 1000 };
const optionsOf = (given: Partial<PairOptions>) =>
  parseOptions('dense', pairOptions, given) as unknown as PairOptions;

await pairParts.prepare(optionsOf({ softcap: 1 }));

const REACH = 4;
const biases = new Random(3).gaussians(H * (2 * REACH + 1));
const weights = new Map<string, Weight>([['relative', encode('float32', [H, 2 * REACH + 1], biases)]]);

/** Attention alone, on queries, keys and values from outside. */
function programOf(given: Partial<PairOptions>, mask: MaskExpression | null = null, specs = weights) {
  return trace(specs, (t) => {
    const qkv = t.input('qkv', 'float32', [3 * H, symbol('B'), symbol('N'), PITCH]);
    const lengths = t.input('lengths', 'int32', [symbol('B')]);
    const parameter = (name: string, shape?: readonly number[]) => t.parameter(name, shape);
    const context: AttentionContext = { t, layer, x: qkv, lengths, project: () => qkv, parameter };
    t.output(attendPairs(context, mask, optionsOf(given)));
  });
}

const rowsOf = (B: number, N: number, seed: number): Float32Array =>
  new Random(seed).gaussians(3 * H * B * N * PITCH).map((v, i) => (i % PITCH < D ? v : 0));

/** Softmax over whole rows in float64, by a formula of the test's own. */
function naive(
  qkv: Float32Array,
  n: number,
  modify: (s: number, h: number, q: number, k: number) => number,
): number[] {
  const out: number[] = [];
  const at = (part: number, h: number, row: number) => ((part * H + h) * n + row) * PITCH;
  for (let q = 0; q < n; q++)
    for (let h = 0; h < H; h++) {
      const powers = Array.from({ length: n }, (_, k) => {
        let s = 0;
        for (let d = 0; d < D; d++) s += qkv[at(0, h, q) + d] * qkv[at(1, h, k) + d];
        return Math.exp(modify(s / Math.sqrt(D), h, q, k));
      });
      const sum = powers.reduce((a, b) => a + b);
      for (let d = 0; d < D; d++)
        out.push(powers.reduce((y, p, k) => y + (p / sum) * qkv[at(2, h, k) + d], 0));
    }
  return out;
}

const far = (a: ArrayLike<number>, b: ArrayLike<number>, count = b.length): number =>
  Array.from({ length: count }, (_, i) => Math.abs(a[i] - b[i])).reduce((x, y) => Math.max(x, y), 0);

// Three heads: those of two, and the first of four.
const SLOPES = [2 ** -4, 2 ** -8, 2 ** -2];
const clipped = (h: number, distance: number) =>
  biases[h * (2 * REACH + 1) + Math.max(-REACH, Math.min(REACH, distance)) + REACH];

const CHANGES: [string, Partial<PairOptions>, (s: number, h: number, q: number, k: number) => number][] = [
  ['nothing', {}, (s) => s],
  ['softcap', { softcap: 1.5 }, (s) => 1.5 * Math.tanh(s / 1.5)],
  ['ALiBi', { position: 'alibi' }, (s, h, q, k) => s - SLOPES[h] * Math.abs(q - k)],
  [
    'relative biases',
    { position: 'relative', relativeDistance: REACH },
    (s, h, q, k) => s + clipped(h, k - q),
  ],
  [
    'softcap, then ALiBi',
    { softcap: 2, position: 'alibi' },
    (s, h, q, k) => 2 * Math.tanh(s / 2) - SLOPES[h] * Math.abs(q - k),
  ],
];

describe('scores', () => {
  it.each(CHANGES)('with %s agree with softmax by hand', (_, given, modify) => {
    const n = 75;
    const qkv = rowsOf(1, n, 8);
    const [got] = runReference(programOf(given), weights, { qkv, lengths: [n] }, { B: 1, N: n }, 256);
    expect(got).toHaveLength(n * H * D);
    expect(far(got, naive(qkv, n, modify))).toBeLessThan(1e-6);
  });

  it('pass through the plain op where nothing changes them', () => {
    expect(programOf({}).nodes.map(({ kind }) => kind)).toEqual(['attention']);
    expect(programOf({ softcap: 1 }).nodes.map(({ kind }) => kind)).toEqual(['scoredAttention']);
    expect(programOf({ position: 'rotary' }).nodes.map(({ kind }) => kind)).toEqual(['rotary', 'attention']);
  });
});

const VARIANTS: Partial<PairOptions>[] = [
  { softcap: 2 },
  { position: 'alibi' },
  { position: 'relative', relativeDistance: REACH },
  { position: 'rotary' },
  { position: 'rotary', rotaryLayout: 'pairs', softcap: 3 },
];

describe('padding', () => {
  it.each(VARIANTS)('changes no row of a sequence: %j', async (given) => {
    const features = { ...probeFeatures(), panel: 8 as const };
    const tiles = { float32: 4, int8: 4 };
    const setting = fc.record({
      n: fc.integer({ min: 1, max: 140 }),
      more: fc.integer({ min: 0, max: 70 }),
      window: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(setting, async ({ n, more, window }) => {
        const program = programOf(given, window ? local(3, 9) : null);
        const engine = await WasmEngine.create(program, weights, { features, tiles, threads: 1 });
        const loader = engine.loader(weights);
        for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
        loader.finish();
        try {
          const N = n + more;
          // Beside it a sequence of N tokens, and one without any.
          const wide = rowsOf(3, N, n);
          const alone = new Float32Array(3 * H * n * PITCH);
          for (let head = 0; head < 3 * H; head++)
            alone.set(wide.subarray(head * 3 * N * PITCH, (head * 3 * N + n) * PITCH), head * n * PITCH);
          const lengths = Int32Array.of(n, N, 0);
          const [together] = await engine.run({ B: 3, N }, { qkv: wide, lengths });
          const [got] = await engine.run({ B: 1, N: n }, { qkv: alone, lengths: Int32Array.of(n) });
          expect(far(together, got)).toBe(0);
          expect(together.subarray(2 * N * H * D).every((y) => y === 0)).toBe(true);
          expect(together.every(Number.isFinite)).toBe(true);
          const [want] = runReference(program, weights, { qkv: alone, lengths: [n] }, { B: 1, N: n }, 256);
          expect(far(got, want)).toBeLessThan(1e-5);
        } finally {
          engine.dispose();
        }
      }),
      { numRuns: 12, seed: 5 },
    );
  });
});

describe('rotary positions', () => {
  /** Turns the same row at every position. */
  function turn(row: readonly number[], N: number, layout: (typeof ROTARY_LAYOUTS)[number], base?: number) {
    const size = row.length;
    const pitch = padHead(size);
    const program = trace(new Map(), (t) => {
      const x = t.input('x', 'float32', [1, 1, symbol('N'), pitch]);
      t.output(rotary(t, x, { count: 1, size, layout, base }));
    });
    const x = Array.from({ length: N * pitch }, (_, i) => row[i % pitch] ?? 0);
    const [y] = runReference(program, new Map(), { x }, { N }, 256);
    return Array.from({ length: N }, (_, n) => [...y.subarray(n * pitch, n * pitch + size)]);
  }
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const vector = (size: number) =>
    fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: size, maxLength: size });

  it.each(ROTARY_LAYOUTS)('keep lengths, and products depend on the distance alone: %s', (layout) => {
    fc.assert(
      fc.property(
        fc.constantFrom(2, 6, 8, 20).chain((size) => fc.tuple(vector(size), vector(size))),
        ([q, k]) => {
          const [queries, keys] = [turn(q, 40, layout), turn(k, 40, layout)];
          for (let n = 0; n < 40; n++) expect(dot(keys[n], keys[n])).toBeCloseTo(dot(k, k), 8);
          for (const distance of [0, 1, 7])
            for (let n = 0; n + distance < 40; n += 5)
              expect(dot(queries[n], keys[n + distance])).toBeCloseTo(dot(queries[0], keys[distance]), 8);
        },
      ),
      { numRuns: 40, seed: 2 },
    );
  });

  it('turn the first columns by one radian a token, and the others more slowly', () => {
    const angles = [1, 0.01].map((angle) => [Math.cos(3 * angle), Math.sin(3 * angle)]);
    const [halves, pairs] = [turn([1, 1, 0, 0], 4, 'halves')[3], turn([1, 0, 1, 0], 4, 'pairs')[3]];
    expect(far(halves, [angles[0][0], angles[1][0], angles[0][1], angles[1][1]])).toBeLessThan(1e-12);
    expect(far(pairs, [angles[0][0], angles[0][1], angles[1][0], angles[1][1]])).toBeLessThan(1e-12);
    expect(turn([1, 1, 0, 0], 4, 'halves', 1)[3][1]).toBeCloseTo(Math.cos(3), 12);
  });

  it('ask for heads of even size', () => {
    expect(pairParts.refuse({ ...layer, headSize: 7 }, optionsOf({ position: 'rotary' }))).toMatch(/pairs/);
    expect(pairParts.refuse({ ...layer, headSize: 7 }, optionsOf({ position: 'alibi' }))).toBeNull();
    expect(pairParts.refuse(layer, optionsOf({ position: 'rotary' }))).toBeNull();
    expect(dense.refuse!({ ...layer, headSize: 7 }, optionsOf({ position: 'rotary' }) as never)).toMatch(/7/);
  });
});

describe('weights of their own', () => {
  it('have none but relative biases, which start at nothing', async () => {
    for (const position of ['none', 'alibi', 'rotary'] as const)
      expect(await pairParts.initialise({ layer } as InitialiseContext, optionsOf({ position }))).toEqual(
        new Map(),
      );
    const relative = { position: 'relative', relativeDistance: REACH } as const;
    const made = await pairParts.initialise({ layer } as InitialiseContext, optionsOf(relative));
    expect([...made.keys()]).toEqual(['relative']);
    const { shape, data } = made.get('relative')!;
    expect(shape).toEqual([H, 2 * REACH + 1]);
    const zeros = new Map([['relative', encode('float32', shape, data)]]);
    const n = 20;
    const inputs = { qkv: rowsOf(1, n, 4), lengths: [n] };
    const run = (given: Partial<PairOptions>) =>
      runReference(programOf(given, null, zeros), zeros, inputs, { B: 1, N: n }, 256)[0];
    expect(run(relative)).toEqual(run({}));
  });

  it.each([
    { softcap: -1 },
    { softcap: Number.NaN },
    { position: 'absolute' },
    { relativeDistance: 0 },
    { relativeDistance: 1.5 },
    { rotaryBase: 0 },
    { rotaryLayout: 'thirds' },
  ])('refuses %j', (given) => {
    expect(() => optionsOf(given as never)).toThrow(expect.objectContaining({ code: 'ATTENTION_OPTION' }));
  });
});
