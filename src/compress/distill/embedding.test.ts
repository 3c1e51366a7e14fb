import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import type { Model } from '../../model/config.ts';
import { Random } from '../../tensor/random.ts';
import { nodePlace } from '../../train/index.ts';
import { applyRecipe, parseRecipe } from '../recipe.ts';
import type { StepContext } from '../step.ts';

const WORDS = 'a small model runs in the page and node alike with every word known to it'.split(' ');
const random = new Random(8);
const TEXTS = Array.from({ length: 200 }, () =>
  Array.from({ length: 2 + random.integer(8) }, () => WORDS[random.integer(WORDS.length)]).join(' '),
);
const recipe = [
  {
    step: 'distill',
    kind: 'embedding',
    student: { layers: 1, fold: true, map: 'last', tableSize: 16, vocabulary: 64 },
    steps: 30,
    batch: 16,
    heldOut: 0.1,
    evaluations: 3,
    learningRate: 1e-3,
  },
  { step: 'quantize', bits: 8 },
];

const context = (folder: string, more: Partial<StepContext> = {}): StepContext => ({
  training: { texts: async () => TEXTS, place: nodePlace(folder), threads: 1 },
  ...more,
});

async function bytesOf({ weights }: Model): Promise<Map<string, string>> {
  const out = new Map<string, string>();
  for (const name of weights.specs.keys())
    out.set(name, Buffer.from((await weights.read(name)).bytes).toString('base64'));
  return out;
}

describe('the distill step', () => {
  it('makes a smaller model that other steps take, and says in the recipe all that it was told', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
    const model = await applyRecipe(madeEncoder(), recipe, context(folder));
    expect(model.config).toMatchObject({ vocabularySize: 64, tableSize: 16, tokenTypes: 0 });
    expect(model.config.layers).toHaveLength(1);
    expect(model.recipe).toMatchObject([{ ...recipe[0], seed: 1, decay: 'cosine' }, recipe[1]]);
    expect(model.weights.specs.get('layers.0.feedForward.up.weight')!.codec).toBe('int8');
  });

  it('goes on after it was stopped in each of its parts, to the same bits', async () => {
    const whole = await applyRecipe(
      madeEncoder(),
      recipe,
      context(mkdtempSync(join(tmpdir(), 'attenuate-distill-'))),
    );
    const folder = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
    for (const stopAt of [0, 5, 17]) {
      const stop = new AbortController();
      const halt = () => stop.abort(new Error('stopped'));
      const stopped = context(folder, {
        signal: stop.signal,
        onProgress: () => stopAt === 0 && halt(),
        training: {
          texts: async () => TEXTS,
          place: nodePlace(folder),
          threads: 1,
          onProgress: ({ step }) => step === stopAt && halt(),
        },
      });
      await expect(applyRecipe(madeEncoder(), recipe, stopped)).rejects.toThrow('stopped');
    }
    expect(readdirSync(folder).some((name) => name.startsWith('checkpoint-'))).toBe(true);
    const resumed = await applyRecipe(madeEncoder(), recipe, context(folder));
    expect(await bytesOf(resumed)).toEqual(await bytesOf(whole));
  });

  it('is refused without text, and for a model that gives no embeddings', async () => {
    await expect(applyRecipe(madeEncoder(), recipe)).rejects.toMatchObject({ code: 'TRAINING_TEXT' });
    const head = { kind: 'classification', labels: ['a', 'b'], poolerActivation: 'tanh' } as const;
    await expect(applyRecipe(madeEncoder(head), recipe, context('unused'))).rejects.toMatchObject({
      code: 'WRONG_HEAD',
    });
  });
});

describe('layer-wise distillation as a step', () => {
  const layers = {
    step: 'distill',
    kind: 'layers',
    student: { layers: 1, width: 24, heads: 2 },
    compare: 'relations',
    steps: 20,
    batch: 16,
    heldOut: 0.1,
    evaluations: 2,
  };

  it('trains in two phases, for embeddings and for classes', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
    const classifier = { kind: 'classification', labels: ['a', 'b'], poolerActivation: 'tanh' } as const;
    const made = await applyRecipe(madeEncoder(classifier), [layers], context(folder));
    expect(made.config).toMatchObject({ embeddingSize: 24, head: classifier });
    const logs = readdirSync(folder).filter((name) => name.startsWith('log-'));
    expect(logs).toHaveLength(2);
    const student = { layers: 1 };
    const other = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
    const again = await applyRecipe(
      madeEncoder(),
      [{ ...layers, student, compare: 'scores' }],
      context(other),
    );
    expect(again.config.layers).toHaveLength(1);
  });

  it.each([
    ['STUDENT_UNSUPPORTED', { student: { vocabulary: 70 } }],
    ['DISTILL_NOTHING', { hidden: 0, embedding: 0, attention: 0 }],
    ['OBJECTIVE_LAYER', { compare: 'scores', intermediate: 1 }],
    ['STUDENT_SIZE', {}],
  ])('is refused, as %s, for %j', async (code, change) => {
    const recipe = [{ ...layers, ...change }];
    const folder = mkdtempSync(join(tmpdir(), 'attenuate-distill-'));
    await expect(applyRecipe(madeEncoder(), recipe, context(folder))).rejects.toMatchObject({ code });
  });
});

describe('recovery after a step', () => {
  it.each([
    ['attention', { step: 'attention', kind: 'local', left: 1, right: 1 }],
    ['quantize', { step: 'quantize', bits: 8 }],
  ])('brings a model nearer to what it was before %s', async (_name, step) => {
    const folder = mkdtempSync(join(tmpdir(), 'attenuate-recover-'));
    const recover = { steps: 40, batch: 16, heldOut: 0.1, evaluations: 4, learningRate: 1e-3 };
    const scores: number[] = [];
    const model = await applyRecipe(madeEncoder(), [{ ...step, recover }], {
      training: {
        texts: async () => TEXTS,
        place: nodePlace(folder),
        threads: 1,
        onProgress: ({ score }) => score !== null && scores.push(score),
      },
    });
    expect(Math.min(...scores)).toBeLessThan(scores[0]);
    expect(model.recipe).toMatchObject([{ ...step, recover: { ...recover, seed: 1 } }]);
    expect(parseRecipe(model.recipe)).toEqual(model.recipe);
    const codecs = [...model.weights.specs.values()].map(({ codec }) => codec);
    expect(codecs.includes('int8')).toBe(step.step === 'quantize');
  });

  it('is refused with options that it has not', async () => {
    const recipe = [{ step: 'quantize', bits: 8, recover: { speed: 1 } }];
    await expect(applyRecipe(madeEncoder(), recipe)).rejects.toMatchObject({ code: 'RECIPE_INVALID' });
  });
});
