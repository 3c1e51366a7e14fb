import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { WasmEngine } from '../backend/wasm/engine.ts';
import { applyRecipe, probeModel } from '../compress/index.ts';
import { encodeArtifact } from '../format/index.ts';
import { MOST_PROBE } from '../format/probe.ts';
import type { HeadSpec, Model } from '../model/config.ts';
import { encode } from '../tensor/codec.ts';
import { load, loadModel } from './index.ts';

const before = process.env.XDG_CACHE_HOME;
const cache = mkdtempSync(join(tmpdir(), 'attenuate-agreement-'));
const remembered = join(cache, 'attenuate', 'agreements.json');
beforeAll(() => {
  process.env.XDG_CACHE_HOME = cache;
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(remembered, { force: true });
});
afterAll(() => {
  if (before === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = before;
  rmSync(cache, { recursive: true });
});

const HEADS: HeadSpec[] = [
  { kind: 'embedding', pooling: 'mean', dense: false, normalize: true },
  { kind: 'classification', labels: ['a', 'b', 'c'], poolerActivation: 'tanh' },
  { kind: 'maskedToken', activation: 'gelu' },
];
const INT8 = [{ step: 'quantize', bits: 8 }];

const artifactOf = async (model: Model) => encodeArtifact(model, await probeModel(model));

/** Changes what the engine gives before anyone sees it. */
function damage(change: (y: Float32Array) => Float32Array): void {
  const { run } = WasmEngine.prototype;
  vi.spyOn(WasmEngine.prototype, 'run').mockImplementation(async function (this: WasmEngine, ...args) {
    return (await run.apply(this, args)).map(change);
  });
}

describe('an artifact with a probe', () => {
  it.each(
    HEADS.flatMap((head) =>
      [[], INT8].map((recipe) => [head.kind, recipe.length ? 'int8' : 'float', head, recipe] as const),
    ),
  )('is verified at its first load, and remembered: %s, %s', async (_kind, _name, head, recipe) => {
    const bytes = await artifactOf(await applyRecipe(madeEncoder(head), recipe));
    for (const level of ['auto', 'simd128'] as const) {
      const first = await load(bytes, { level });
      expect(first.info.agreement.state).toBe('verified');
      expect(first.info.agreement.cosine).toBeGreaterThan(0.95);
      const second = await load(bytes, { level });
      expect(second.info.agreement).toEqual({ state: 'remembered' });
      const off = await load(bytes, { level, verify: false });
      expect(off.info.agreement).toEqual({ state: 'not verified' });
      for (const model of [first, second, off]) model.dispose();
    }
    const kept = Object.keys(JSON.parse(readFileSync(remembered, 'utf8')));
    expect(kept).toHaveLength(2);
  });

  it.each<[string, (y: Float32Array) => Float32Array]>([
    ['twice the right value', (y) => y.map((v) => 2 * v)],
    ['a few hundredths of noise', (y) => y.map((v, i) => v * (1 + 0.05 * Math.sin(7 * i)))],
    ['values in other places', (y) => y.map((_, i) => y[i ^ 1])],
    ['zeros', (y) => y.fill(0)],
    ['one NaN', (y) => y.fill(NaN, 3, 4)],
    ['infinity', (y) => y.fill(Infinity, 3, 4)],
    ['too few values', (y) => y.subarray(0, 8)],
  ])('is refused, with the figures, where the engine gives %s', async (_name, change) => {
    const bytes = await artifactOf(await applyRecipe(madeEncoder(), INT8));
    damage(change);
    await expect(load(bytes)).rejects.toMatchObject({
      code: 'AGREEMENT_FAILED',
      fields: {
        nmse: expect.any(Number),
        cosine: expect.any(Number),
        mostNmse: expect.any(Number),
        level: expect.any(String),
      },
    });
    expect(existsSync(remembered)).toBe(false);
    const trusted = await load(bytes, { verify: false });
    trusted.dispose();
  });

  it('is refused when its weights are not those of its probe', async () => {
    const model = madeEncoder();
    const probe = await probeModel(model);
    const other: Model = {
      ...model,
      weights: {
        ...model.weights,
        async read(name) {
          const weight = await model.weights.read(name);
          if (name !== 'layers.0.feedForward.up.bias') return weight;
          return encode('float32', weight.shape, new Float32Array(weight.shape[0]));
        },
      },
    };
    await expect(load(await encodeArtifact(other, probe))).rejects.toMatchObject({
      code: 'AGREEMENT_FAILED',
    });
  });

  it('goes unverified, and says so, without a probe or as a model that is already open', async () => {
    const model = madeEncoder();
    const bare = await load(await encodeArtifact(model));
    const open = await loadModel(model);
    for (const { info } of [bare, open]) expect(info.agreement).toEqual({ state: 'no probe' });
    bare.dispose();
    open.dispose();
  });

  it('loads where nothing can be remembered', async () => {
    process.env.XDG_CACHE_HOME = '/dev/null/nowhere';
    try {
      const bytes = await artifactOf(madeEncoder());
      for (let i = 0; i < 2; i++) {
        const model = await load(bytes);
        expect(model.info.agreement.state).toBe('verified');
        model.dispose();
      }
    } finally {
      process.env.XDG_CACHE_HOME = cache;
    }
  });
});

describe('a probe', () => {
  it('is the same for the same model, small, and told apart where activations are quantised', async () => {
    const int8 = await applyRecipe(madeEncoder(), INT8);
    const probe = await probeModel(int8);
    expect(await probeModel(int8)).toEqual(probe);
    expect(probe.limits).toHaveLength(2);
    expect((await probeModel(madeEncoder())).limits).toHaveLength(1);
    for (const head of HEADS)
      expect(JSON.stringify(await probeModel(madeEncoder(head))).length).toBeLessThan(MOST_PROBE);
  });

  it('allows a float model no more than float32 is off', async () => {
    const { limits } = await probeModel(madeEncoder());
    expect(limits).toEqual([{ median: 1e-6, worst: 1e-6 }]);
  });

  it('keeps the largest values of wide rows', async () => {
    const wide: HeadSpec = {
      kind: 'classification',
      labels: Array.from({ length: 500 }, (_, i) => `${i}`),
      poolerActivation: null,
    };
    const model = madeEncoder(wide);
    const probe = await probeModel(model);
    expect(probe.samples[0].places).toHaveLength(256);
    const loaded = await load(await encodeArtifact(model, probe));
    expect(loaded.info.agreement.state).toBe('verified');
    loaded.dispose();
  });

  it('stops at an abort', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(probeModel(madeEncoder(), { signal })).rejects.toThrow('enough');
  });
});
