import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { runReference } from '../backend/reference/interpreter.ts';
import { WasmEngine } from '../backend/wasm/engine.ts';
import { probeFeatures } from '../backend/wasm/probe.ts';
import { applyRecipe } from '../compress/index.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import type { Weight } from '../tensor/codec.ts';
import { groupByLength } from './batches.ts';
import { loadModel } from './index.ts';

const TEXTS = [
  'a small model',
  'runs in the page and node alike',
  '',
  'quick brown fox',
  'every word known to it',
];

async function weightsOf({ weights }: Model): Promise<Map<string, Weight>> {
  const out = new Map<string, Weight>();
  for (const name of weights.specs.keys()) out.set(name, await weights.read(name));
  return out;
}

/** What the float64 interpreter makes of one text's tokens. */
async function truth(model: Model, ids: number[], levels: 128 | 256, rows?: number[], types?: number[]) {
  const program = await traceEncoder(model.config, model.weights.specs);
  const N = ids.length;
  const inputs = { ids, lengths: [N], types: types ?? new Array(N).fill(0), rows: rows ?? [0] };
  return runReference(program, await weightsOf(model), inputs, { B: 1, N, P: rows?.length ?? 1 }, levels)[0];
}

const far = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce(
    (worst, x, i) => Math.max(worst, Math.abs(x - b[i])),
    a.length === b.length ? 0 : Infinity,
  );

const RECIPES = [
  [],
  [{ step: 'quantize', bits: 8 }],
  [{ step: 'attention', kind: 'local', left: 2, right: 1 }],
  [
    { step: 'attention', kind: 'local', left: 2, right: 1 },
    { step: 'quantize', bits: 8 },
  ],
];

describe('a loaded model', () => {
  it.each(RECIPES.map((recipe) => [JSON.stringify(recipe), recipe] as const))(
    'equals the reference after %s',
    async (_, recipe) => {
      const model = await applyRecipe(madeEncoder(), recipe as never);
      for (const level of ['auto', 'simd128'] as const) {
        const loaded = await loadModel(model, { level });
        const levels = loaded.info.dot === 'u7' ? 128 : 256;
        const got = await loaded.embed(TEXTS);
        for (const [i, text] of TEXTS.entries())
          expect(far(got[i], await truth(model, await loaded.tokenize(text), levels))).toBeLessThan(2e-5);
        loaded.dispose();
      }
    },
  );

  it('gives the same row whatever stands beside a text, and with two threads', async () => {
    const [one, two] = [await loadModel(madeEncoder()), await loadModel(madeEncoder(), { threads: 2 })];
    const together = await one.embed(TEXTS);
    expect(await two.embed(TEXTS)).toEqual(together);
    for (const [i, text] of TEXTS.entries()) expect((await one.embed([text]))[0]).toEqual(together[i]);
    expect(await one.embed([])).toEqual([]);
    one.dispose();
    two.dispose();
  });

  it('classifies, and gives every label its probability', async () => {
    const model = madeEncoder({
      kind: 'classification',
      labels: ['bad', 'good', 'so-so'],
      poolerActivation: 'tanh',
    });
    const loaded = await loadModel(model);
    const [found] = await loaded.classify(['quick brown fox']);
    const want = await truth(model, await loaded.tokenize('quick brown fox'), 256);
    expect(
      far(
        found.scores.map((s) => s.score),
        want,
      ),
    ).toBeLessThan(1e-5);
    expect(found.score).toBe(Math.max(...found.scores.map((s) => s.score)));
    await expect(loaded.embed(['a'])).rejects.toMatchObject({ code: 'WRONG_HEAD' });
    loaded.dispose();
  });

  it('fills each mask', async () => {
    const model = madeEncoder({ kind: 'maskedToken', activation: 'gelu' });
    const loaded = await loadModel(model);
    const text = 'a [MASK] model in the [MASK]';
    const ids = await loaded.tokenize(text);
    const rows = ids.flatMap((id, i) => (id === 4 ? [i] : []));
    const want = await truth(model, ids, 256, rows);
    const filled = await loaded.fillMask(text, { top: 3 });
    expect(filled).toHaveLength(2);
    filled.forEach((candidates, p) => {
      const scores = want.subarray(p * model.config.vocabularySize, (p + 1) * model.config.vocabularySize);
      expect(candidates[0].id).toBe(scores.indexOf(Math.max(...scores)));
      expect(candidates[0].score).toBeCloseTo(Math.max(...scores), 5);
    });
    await expect(loaded.fillMask('no mask')).rejects.toMatchObject({ code: 'NO_MASK' });
    loaded.dispose();
  });

  it('tells the two texts of a pair apart', async () => {
    const model = madeEncoder();
    const loaded = await loadModel(model);
    const ids = await loaded.tokenize(['quick', 'brown fox']);
    const cut = ids.indexOf(3) + 1;
    const want = await truth(
      model,
      ids,
      256,
      undefined,
      ids.map((_, i) => (i < cut ? 0 : 1)),
    );
    expect(far((await loaded.embed([['quick', 'brown fox']]))[0], want)).toBeLessThan(2e-5);
    loaded.dispose();
  });

  it('queues calls, refuses bad ids, and returns its memory', async () => {
    const loaded = await loadModel(madeEncoder());
    const all = await Promise.all(TEXTS.map((t) => loaded.embed([t])));
    expect(all.map(([row]) => row)).toEqual(await loaded.embed(TEXTS));
    await expect(loaded.run([[0, 9999]])).rejects.toMatchObject({ code: 'INPUT_TOKEN' });
    await expect(loaded.run([[]])).rejects.toMatchObject({ code: 'INPUT_EMPTY' });
    await expect(loaded.run([new Array(65).fill(1)])).rejects.toMatchObject({ code: 'INPUT_TOO_LONG' });
    expect(await loaded.memoryBytes()).toBeGreaterThan(0);
    loaded.dispose();
    expect(await loaded.memoryBytes()).toBe(0);
    await expect(loaded.embed(['a'])).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  it('stops at the next stage after an abort, and works on', async () => {
    const loaded = await loadModel(madeEncoder());
    const before = await loaded.embed(['a small model']);
    const controller = new AbortController();
    const running = loaded.embed(['quick brown fox'], { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('enough')));
    await expect(running).rejects.toThrow('enough');
    await expect(loaded.embed(['a'], { signal: controller.signal })).rejects.toThrow('enough');
    expect(await loaded.embed(['a small model'])).toEqual(before);
    loaded.dispose();
  });

  it('refuses more memory than allowed before it takes any', async () => {
    const [small] = await (await loadModel(madeEncoder())).plan(8);
    await expect(loadModel(madeEncoder(), { maxMemory: 65536 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    });
    const loaded = await loadModel(madeEncoder(), {
      maxMemory: Math.ceil(small.peakBytes / 65536 + 2) * 65536,
    });
    const held = await loaded.memoryBytes();
    await expect(loaded.run(new Array(400).fill(new Array(60).fill(1)))).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    });
    expect(await loaded.memoryBytes()).toBe(held);
    loaded.dispose();
  });
});

describe('the memory plan', () => {
  /** Bytes that a run changes, found by filling the memory with a pattern first; two patterns hide nothing. */
  async function touched(model: Model, B: number, N: number): Promise<{ highest: number; planned: number }> {
    const program = await traceEncoder(model.config, model.weights.specs);
    const features = { ...probeFeatures(), panel: 8 } as const;
    const engine = await WasmEngine.create(program, model.weights.specs, {
      features,
      tiles: { float32: 4, int8: 4 },
      threads: 1,
    });
    const loader = engine.loader(model.weights.specs);
    for (const [name, { bytes }] of await weightsOf(model)) loader.accept(name, 0, bytes);
    loader.finish();
    const inputs = {
      ids: new Int32Array(B * N).fill(7),
      types: new Int32Array(B * N),
      lengths: new Int32Array(B).fill(N),
      rows: new Int32Array(B),
    };
    const bindings = { B, N, P: 1 };
    await engine.run(bindings, inputs);
    const plan = engine.plan(bindings);
    let highest = 0;
    for (const pattern of [0x5a, 0xa5]) {
      const memory = new Uint8Array(engine.buffer());
      memory.fill(pattern, plan.base);
      await engine.run(bindings, inputs);
      const after = new Uint8Array(engine.buffer());
      const activations = plan.base + plan.layout.peakBytes;
      // Scratch begins past the activations: what a run leaves there has a bound of its own.
      for (let at = activations + 63; at >= plan.base; at--)
        if (after[at] !== pattern && at < plan.scratch) {
          highest = Math.max(highest, at + 1);
          break;
        }
      for (let at = plan.end; at < after.length; at++)
        if (after[at] !== pattern) throw new Error(`byte ${at} past the plan`);
    }
    engine.dispose();
    return { highest, planned: plan.base + plan.layout.peakBytes };
  }

  it.each([
    [1, 1],
    [1, 16],
    [3, 17],
    [2, 64],
    [20, 61],
  ])('is reached and never passed, to the byte: %i texts of %i tokens', async (B, N) => {
    for (const recipe of [[], [{ step: 'quantize', bits: 8 }]]) {
      const { highest, planned } = await touched(await applyRecipe(madeEncoder(), recipe as never), B, N);
      expect(highest).toBe(planned);
    }
  });
});

describe('groupByLength', () => {
  it('keeps every text once, one length a batch, longest first', () => {
    const lengths = [3, 5, 3, 1, 5, 3];
    const batches = groupByLength(lengths);
    expect(batches.map((b) => b.length)).toEqual([5, 3, 1]);
    expect(batches.flatMap((b) => b.members).sort()).toEqual([0, 1, 2, 3, 4, 5]);
    for (const { length, members } of batches) for (const m of members) expect(lengths[m]).toBe(length);
    expect(groupByLength(new Array(300).fill(64)).every((b) => b.members.length <= 32)).toBe(true);
  });
});
