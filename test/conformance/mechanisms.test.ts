import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MECHANISMS } from '../../src/attention/all.ts';
import { applyRecipe, formatAttention, probeModel } from '../../src/compress/index.ts';
import { bytesSource, encodeArtifact, openArtifact } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { calibrationFrom } from '../../src/optimize/calibration.ts';
import { constant, le } from '../../src/program/mask/expression.ts';
import { load, loadModel } from '../../src/runtime/index.ts';
import { madeEncoder } from '../made-encoder.ts';
import { apart, batchOf, LEVEL_NAMES, MadeModel, randomSequences } from './made-model.ts';

/*
 * Laws that every mechanism keeps, whoever wrote it. A new file in src/attention/mechanisms is held to them with each
 * of its `examples`, in every layer of a tiny encoder.
 */

/** Text for mechanisms that are made from it. */
const TEXTS = [
  'a small model runs in the page',
  'every word known to it, quick brown fox',
  'node alike with every word known to it quick brown fox in the page and a small model runs alike in node',
];
/** Options with which a mechanism is dense attention over a short text, where it has such. */
const KEEPING_ALL: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  bigbird: { window: 64 },
  'block-sparse': { density: 1 },
  dense: {},
  dynamic: { mass: 1 },
  fixed: { block: 64 },
  grouped: { groups: 4 },
  local: { left: 64, right: 64 },
  longformer: { window: 64 },
  masked: { mask: le(constant(0), constant(1)) },
  strided: { stride: 1 },
};

const LEVELS = ['auto', 'simd128'] as const;

// Nothing is remembered, so that each load compares.
const before = process.env.XDG_CACHE_HOME;
beforeAll(() => {
  process.env.XDG_CACHE_HOME = '/dev/null/nowhere';
});
afterAll(() => {
  if (before === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = before;
});

const VOCABULARY = madeEncoder().config.vocabularySize;
const LENGTHS = [23, 9, 1, 16];
const sequences = randomSequences(LENGTHS, VOCABULARY, 7);

/** The made encoder with its heads cut otherwise: four of 8 columns fill the padding, eight of 4 do not. */
function base(heads: number): Model {
  const model = madeEncoder();
  const layers = model.config.layers.map((layer) => ({
    ...layer,
    heads,
    headSize: layer.outputSize / heads,
  }));
  return { ...model, config: { ...model.config, layers } };
}

const calibrate = (model: Model) => calibrationFrom(model, TEXTS);
const build = (recipe: readonly unknown[], heads = 4): Promise<Model> =>
  applyRecipe(base(heads), recipe, { calibrate });

const cases = MECHANISMS.flatMap((mechanism) =>
  mechanism.examples.map((example) => {
    const spec = { kind: mechanism.kind, ...example };
    return { name: formatAttention(spec), mechanism, step: { step: 'attention', ...spec } };
  }),
);

it('has an example of every mechanism', () => {
  for (const { kind } of MECHANISMS) expect(cases.map(({ step }) => step.kind)).toContain(kind);
});

describe.each(cases)('$name', ({ mechanism, step }) => {
  let model: Model;
  let made: MadeModel;
  beforeAll(async () => {
    model = await build([step]);
    made = await MadeModel.of(model);
  });
  afterAll(() => made?.dispose());

  it.each(LEVEL_NAMES)('is the reference’s on the engine, %s', async (level) => {
    const batch = batchOf(sequences, 23);
    const want = made.reference(batch, level);
    const got = await made.wasm(batch, level);
    for (const [b, row] of got.entries()) expect(apart(row, want[b])).toBeLessThan(1e-4);
  });

  it('is the reference’s where heads are padded', async () => {
    const other = await MadeModel.of(await build([step], 8));
    try {
      const batch = batchOf(sequences, 23);
      const want = other.reference(batch);
      for (const [b, row] of (await other.wasm(batch)).entries())
        expect(apart(row, want[b])).toBeLessThan(1e-4);
    } finally {
      other.dispose();
    }
  });

  it('does not see padding: a text alone is the same text among longer ones', async () => {
    const among = await made.wasm(batchOf(sequences, 41));
    for (const [b, sequence] of sequences.entries()) {
      const [alone] = await made.wasm(batchOf([sequence], sequence.length));
      expect(apart(among[b], alone), `${sequence.length} tokens`).toBeLessThan(2e-5);
    }
    expect(await made.wasm(batchOf(sequences, 41, 11)), 'other padding').toEqual(among);
  });

  it('stays finite beside an empty text, and does not mind it', async () => {
    const [first, , last] = await made.wasm(batchOf([sequences[1], [], sequences[3]], 16));
    const whole = await made.wasm(batchOf([sequences[1], sequences[1], sequences[3]], 16));
    expect(apart(first, whole[0])).toBeLessThan(2e-5);
    expect(apart(last, whole[2])).toBeLessThan(2e-5);
    for (const level of LEVEL_NAMES)
      for (const row of await made.wasm(batchOf([[], sequences[1], []], 9), level))
        expect(row.every(Number.isFinite)).toBe(true);
  });

  it('survives an artifact', async () => {
    const opened = await openArtifact(bytesSource(await encodeArtifact(model)));
    expect(opened.config).toEqual(model.config);
    expect(opened.recipe).toEqual(model.recipe);
    const again = await MadeModel.of(opened);
    try {
      const batch = batchOf(sequences, 23);
      expect(await again.wasm(batch)).toEqual(await made.wasm(batch));
    } finally {
      again.dispose();
    }
  });

  it('agrees with its probe when it is loaded, in float and in int8', async () => {
    for (const recipe of [[step], [step, { step: 'quantize', bits: 8 }]]) {
      const stored = await build(recipe);
      const bytes = await encodeArtifact(stored, await probeModel(stored));
      for (const level of LEVELS) {
        const loaded = await load(bytes, { level });
        expect(loaded.info.agreement.state).toBe('verified');
        loaded.dispose();
      }
    }
  });

  it('takes text in', async () => {
    const loaded = await loadModel(model, { threads: 1 });
    try {
      const [one, ...others] = await loaded.embed([TEXTS[2], 'a', '']);
      for (const row of [one, ...others]) expect(row.every(Number.isFinite)).toBe(true);
      expect(apart(one, (await loaded.embed([TEXTS[2]]))[0])).toBeLessThan(2e-5);
    } finally {
      loaded.dispose();
    }
  });

  it('goes together with int8, before and after', async () => {
    const quantize = { step: 'quantize', bits: 8 };
    const batch = batchOf(sequences, 23);
    const float = await made.wasm(batch);
    for (const recipe of [
      [step, quantize],
      [quantize, step],
    ]) {
      const small = await MadeModel.of(await build(recipe));
      try {
        for (const level of LEVEL_NAMES) {
          const want = small.reference(batch, level);
          for (const [b, row] of (await small.wasm(batch, level)).entries()) {
            expect(cosine(row, want[b]), `${level}, against the reference`).toBeGreaterThan(0.999);
            expect(cosine(row, float[b]), `${level}, against float`).toBeGreaterThan(0.97);
          }
        }
      } finally {
        small.dispose();
      }
    }
  });

  if (mechanism.needs.boundedLength)
    it('refuses texts beyond the model’s own length', async () => {
      await expect(loadModel(model, { tilePositions: true, threads: 1 })).rejects.toMatchObject({
        code: 'ATTENTION_REFUSED',
        fields: { kind: mechanism.kind, maxLength: 64 },
      });
    });

  if (!mechanism.needs.boundedLength)
    it('takes texts beyond the model’s own length', async () => {
      const loaded = await loadModel(model, { tilePositions: true, threads: 1 });
      try {
        const [row] = await loaded.embed([TEXTS[2].repeat(6)]);
        expect(row.every(Number.isFinite)).toBe(true);
      } finally {
        loaded.dispose();
      }
    });

  if (mechanism.needs.calibration)
    it('asks for text to be made from', async () => {
      await expect(applyRecipe(base(4), [step])).rejects.toMatchObject({ code: 'CALIBRATION_MISSING' });
    });
});

it.each(Object.keys(KEEPING_ALL))('%s is dense attention where it keeps every pair', async (kind) => {
  const made = await MadeModel.of(await build([{ step: 'attention', kind, ...KEEPING_ALL[kind] }]));
  const dense = await MadeModel.of(base(4));
  try {
    const batch = batchOf(sequences, 23);
    const want = await dense.wasm(batch);
    for (const [b, row] of (await made.wasm(batch)).entries()) expect(apart(row, want[b])).toBeLessThan(1e-5);
  } finally {
    made.dispose();
    dense.dispose();
  }
});

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}
