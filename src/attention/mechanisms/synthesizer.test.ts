import { describe, expect, it } from 'vitest';
import { attend, initialise, type MadeLayer, madeLayer, relativeError } from '../../../test/made-layer.ts';
import { byteSize } from '../../tensor/codec.ts';
import { Random } from '../../tensor/random.ts';
import { factorise } from '../initialise/synthesizer.ts';
import type { Initialised, LayerSample } from '../mechanism.ts';
import dense from './dense.ts';
import synthesizerDense from './synthesizer-dense.ts';
import factorised from './synthesizer-factorised.ts';
import random from './synthesizer-random.ts';

const N = 30;
const shape = { index: 0, inputSize: 24, heads: 2, headSize: 12, maxLength: N };
const layer = madeLayer(shape, 1, 0.3);
const calibration = Array.from({ length: 20 }, (_, i) => layer.sample(100 + i, i % 3 === 0 ? 17 : N));
const heldOut = Array.from({ length: 6 }, (_, i) => layer.sample(900 + i, i % 2 === 0 ? N : 17));
const ALL = [
  { mechanism: random, options: { codec: 'int8' } },
  { mechanism: random, options: { codec: 'float32' } },
  { mechanism: factorised, options: { rank: 9 } },
  { mechanism: synthesizerDense, options: {} },
].map((row) => ({ ...row, name: [row.mechanism.kind, ...Object.values(row.options)].join(' ') }));

/** The same sequence with other values. */
const withValues = (sample: LayerSample, data: Float32Array): LayerSample => ({
  ...sample,
  values: { shape: sample.values.shape, data },
});
/** Other tokens with the values of `sample`. */
const otherTokens = (sample: LayerSample, seed: number): LayerSample =>
  withValues(layer.sample(seed, sample.n), sample.values.data);
/** Every value row the same: attention averages, so the output is that row. */
const ones = (sample: LayerSample) => withValues(sample, new Float32Array(sample.values.data.length).fill(3));

describe.each(ALL)('$name', ({ mechanism, options }) => {
  const made = initialise(mechanism, options, layer, calibration);

  it('is nearer to dense attention than the mean of all values', async () => {
    const want = attend(dense, {}, layer, heldOut);
    const error = relativeError(attend(mechanism, options, layer, heldOut, await made), want);
    const still = heldOut.map((s) => ({
      ...s,
      queries: { ...s.queries, data: s.queries.data.map(() => 0) },
    }));
    expect(error).toBeLessThan(0.8 * relativeError(attend(dense, {}, layer, still), want));
  });

  it('gives weights that sum to 1', async () => {
    const samples = [N, 5, 1].map((n) => ones(layer.sample(n, n)));
    for (const rows of attend(mechanism, options, layer, samples, await made))
      for (const value of rows) expect(value).toBeCloseTo(3, 6);
  });

  it('does not see padding, and gives 0 for no tokens', async () => {
    const samples = [9, 1, 0].map((n) => layer.sample(7, n));
    const alone = attend(mechanism, options, layer, samples, await made);
    expect(attend(mechanism, options, layer, samples, await made, N, 1e3)).toEqual(alone);
    const empty = attend(mechanism, options, layer, [layer.sample(1, 0)], await made, 4, 2);
    expect(empty[0]).toHaveLength(0);
  });

  it('asks for text', async () => {
    await expect(initialise(mechanism, options, layer, null)).rejects.toMatchObject({
      code: 'CALIBRATION_MISSING',
    });
    await expect(initialise(mechanism, options, layer, [])).rejects.toMatchObject({
      code: 'CALIBRATION_MISSING',
    });
  });

  it('takes queries and keys out of the model', async () => {
    for (const name of ['query.weight', 'query.bias', 'key.weight', 'key.bias'])
      expect((await made).get(name)).toBeNull();
  });
});

describe.each(ALL.slice(0, 3))('$name', ({ mechanism, options }) => {
  it('weighs alike whatever the tokens are', async () => {
    const made = await initialise(mechanism, options, layer, calibration);
    const sample = layer.sample(5, 20);
    const got = attend(mechanism, options, layer, [sample], made);
    expect(attend(mechanism, options, layer, [otherTokens(sample, 6)], made)).toEqual(got);
    expect(relativeError(attend(dense, {}, layer, [otherTokens(sample, 6)]), got)).toBeGreaterThan(0.05);
  });
});

describe('frozen scores', () => {
  const sample = layer.sample(3, N);
  const want = attend(dense, {}, layer, [sample]);

  it('of one text give its dense attention', async () => {
    const stored = await initialise(random, { codec: 'float32' }, layer, [sample]);
    expect(relativeError(attend(random, { codec: 'float32' }, layer, [sample], stored), want)).toBeLessThan(
      1e-5,
    );
    // Factors tell attention apart down to a thousandth of even attention: no pair here has less.
    const mild = { ...sample, queries: { ...sample.queries, data: sample.queries.data.map((x) => x / 4) } };
    const factors = await initialise(factorised, { rank: N }, layer, [mild]);
    const [got, mildly] = [
      attend(factorised, { rank: N }, layer, [mild], factors),
      attend(dense, {}, layer, [mild]),
    ];
    expect(relativeError(got, mildly)).toBeLessThan(1e-5);
  });

  it('lose little in int8, and more the fewer columns the factors have', async () => {
    const stored = await initialise(random, {}, layer, [sample]);
    expect(relativeError(attend(random, {}, layer, [sample], stored), want)).toBeLessThan(0.02);
    const errors: number[] = [];
    for (const rank of [1, 4, 8, 16]) {
      const factors = await initialise(factorised, { rank }, layer, [sample]);
      errors.push(relativeError(attend(factorised, { rank }, layer, [sample], factors), want));
    }
    for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]);
  });

  it('keep a weight for each token in int8, however far away the largest is', async () => {
    const loud = layer.sample(3, N);
    // All attention goes to the last token, which a shorter text does not have.
    const far = {
      ...loud,
      keys: {
        ...loud.keys,
        data: loud.keys.data.map((x, i) => (Math.floor(i / 12) % N === N - 1 ? 50 * x : x)),
      },
    };
    const stored = await initialise(random, {}, layer, [far]);
    for (const rows of attend(random, {}, layer, [ones(layer.sample(4, 6))], stored))
      for (const value of rows) expect(value).toBeCloseTo(3, 6);
  });
});

describe('factorise', () => {
  it('comes nearer to the scores with each column', () => {
    const logits = Float64Array.from(new Random(2).gaussians(N * N));
    for (let q = 0; q < N; q++) {
      const mean = logits.subarray(q * N, (q + 1) * N).reduce((a, b) => a + b) / N;
      for (let k = 0; k < N; k++) logits[q * N + k] -= mean;
    }
    let before = Infinity;
    for (const rank of [1, 3, 8, 20, N]) {
      const pitch = (rank + 7) & ~7;
      const { queries, keys } = factorise(logits, N, rank, new Float64Array(N).fill(1));
      let error = 0;
      for (let q = 0; q < N; q++)
        for (let k = 0; k < N; k++) {
          let sum = 0;
          for (let i = 0; i < rank; i++) sum += queries[q * pitch + i] * keys[k * pitch + i];
          error += (sum - logits[q * N + k]) ** 2;
        }
      expect(error).toBeLessThan(before);
      before = error;
    }
    expect(before).toBeLessThan(1e-6);
  });
});

describe('synthesizer-dense', () => {
  it('reads the token itself and no other', async () => {
    const made = await initialise(synthesizerDense, {}, layer, calibration);
    const sample = layer.sample(5, 20);
    const other = otherTokens(sample, 6);
    const C = shape.inputSize;
    // Token 4 stays, all others change.
    const x = other.x.data.slice();
    x.set(sample.x.data.subarray(4 * C, 5 * C), 4 * C);
    const [got] = attend(synthesizerDense, {}, layer, [sample], made);
    const [mixed] = attend(synthesizerDense, {}, layer, [{ ...other, x: { ...other.x, data: x } }], made);
    const row = (rows: Float64Array, i: number) => rows.slice(i * 24, (i + 1) * 24);
    expect(row(mixed, 4)).toEqual(row(got, 4));
    expect(row(mixed, 5)).not.toEqual(row(got, 5));
  });

  it('finds the scores of a layer whose keys are the same in every text', async () => {
    const { keys } = layer.sample(1, N);
    const fixed = (sample: LayerSample): LayerSample => {
      const data = new Float32Array(sample.keys.data.length);
      for (let h = 0; h < 2; h++)
        data.set(keys.data.subarray(h * N * 12, (h * N + sample.n) * 12), h * sample.n * 12);
      return { ...sample, keys: { shape: sample.keys.shape, data } };
    };
    const made = await initialise(synthesizerDense, {}, layer, calibration.map(fixed));
    const samples = heldOut.map(fixed);
    const error = relativeError(
      attend(synthesizerDense, {}, layer, samples, made),
      attend(dense, {}, layer, samples),
    );
    expect(error).toBeLessThan(0.3);
  });
});

describe('bytes', () => {
  const bytesOf = (made: Initialised): number =>
    [...made.values()].reduce(
      (sum, t) => sum + (t ? byteSize({ codec: t.codec ?? 'float32', shape: t.shape }) : 0),
      0,
    );
  const { heads: H, headSize: D, inputSize: C } = shape;
  const gone = 2 * (H * D * C + H * D) * 4;

  it.each([
    ['random in int8', random, {}, H * N * N + 4 * H * N],
    ['random in float32', random, { codec: 'float32' }, 4 * H * N * N],
    ['factorised', factorised, { rank: 9 }, 2 * 4 * H * N * 16],
    ['dense', synthesizerDense, {}, (H * D * C + H * D + H * N * 16) * 4],
  ])('%s adds what its matrices take', async (_name, mechanism, options, bytes) => {
    const made = await initialise(mechanism, options, layer, calibration);
    expect(bytesOf(made)).toBe(bytes);
    expect(gone).toBe(4800);
  });

  it('refuses matrices of more than 128 MiB a layer', () => {
    const long = { ...shape, heads: 12, maxLength: 4096 } satisfies MadeLayer['shape'];
    expect(random.refuse!(long, { codec: 'int8' } as never)).toContain('synthesizer-factorised');
    expect(random.refuse!({ ...long, maxLength: 2048 }, { codec: 'int8' } as never)).toBeNull();
    expect(random.refuse!({ ...long, maxLength: 2048 }, { codec: 'float32' } as never)).toContain('MiB');
    expect(factorised.refuse!(shape, { rank: N + 1 } as never)).toContain('rank');
  });
});
