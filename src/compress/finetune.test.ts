import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { loadModel } from '../runtime/index.ts';
import { Random } from '../tensor/random.ts';
import { nodePlace } from '../train/index.ts';
import { applyRecipe } from './recipe.ts';
import type { StepContext } from './step.ts';

const WORDS = 'a small model runs in the with every word known to it quick brown fox'.split(' ');
const random = new Random(3);
const DATA = Array.from({ length: 300 }, () => {
  const words = Array.from({ length: 2 + random.integer(6) }, () => WORDS[random.integer(WORDS.length)]);
  const label = random.integer(2) ? 'node' : 'page';
  words.splice(random.integer(words.length), 0, label);
  return { text: words.join(' '), label };
});
const finetune = { step: 'finetune', kind: 'classification', steps: 80, learningRate: 3e-3, batch: 16 };
const context = (more: object = {}): StepContext => ({
  training: {
    texts: async () => DATA.slice(0, 240).map(({ text }) => text),
    labels: async () => DATA.slice(0, 240).map(({ label }) => label),
    place: nodePlace(mkdtempSync(join(tmpdir(), 'attenuate-finetune-'))),
    threads: 1,
    ...more,
  },
});

it('makes a classifier of an encoder, which other steps then take', async () => {
  const recipe = [finetune, { step: 'quantize', bits: 8 }];
  const made = await applyRecipe(madeEncoder(), recipe, context());
  expect(made.config.head).toEqual({
    kind: 'classification',
    labels: ['node', 'page'],
    poolerActivation: 'tanh',
  });
  const model = await loadModel(made, { threads: 1 });
  const found = await model.classify(DATA.slice(240).map(({ text }) => text));
  model.dispose();
  const right = found.filter(({ label }, i) => label === DATA[240 + i].label).length;
  expect(right / found.length).toBeGreaterThan(0.9);
});

it('is refused without a label for each text', async () => {
  for (const labels of [undefined, async () => ['page']])
    await expect(applyRecipe(madeEncoder(), [finetune], context({ labels }))).rejects.toMatchObject({
      code: 'TRAINING_LABELS',
    });
});
