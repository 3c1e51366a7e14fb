import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { applyRecipe, parseRecipe, type Recipe } from '../../src/compress/index.ts';
import { textContext } from '../../src/optimize/index.ts';
import { Random } from '../../src/tensor/random.ts';
import { nodePlace } from '../../src/train/index.ts';
import { madeEncoder } from '../made-encoder.ts';

const read = (path: string) => readFileSync(resolve(import.meta.dirname, '../..', path), 'utf8');
const recipes = [...read('docs/training.md').matchAll(/```json\n([\s\S]*?)```/g)].map(
  ([, text]) => JSON.parse(text) as Recipe,
);
const WORDS = 'a small model runs in the page and node alike with every word known to it'.split(' ');
const random = new Random(8);
const TEXTS = Array.from({ length: 120 }, () =>
  Array.from({ length: 4 + random.integer(12) }, () => WORDS[random.integer(WORDS.length)]).join(' '),
);

/** The made encoder is small, and two steps are enough to see that a recipe runs. */
function small(step: Recipe[number]): Recipe[number] {
  const short = { steps: 2, batch: 16, heldOut: 0.1, evaluations: 1, learningRate: 1e-3 };
  const { recover, ...rest } = step as Recipe[number] & { recover?: object };
  const wide = rest as { groupSize?: number; embeddings?: string };
  return {
    ...rest,
    ...(rest.step === 'distill' && { ...short, student: { layers: 1, feedForwardSize: 32 } }),
    ...(wide.groupSize !== undefined && { groupSize: 32 }),
    ...(typeof wide.embeddings === 'string' && { embeddings: 'int4-g32' }),
    ...(recover && { recover: { ...recover, ...short } }),
  } as Recipe[number];
}

it.each(recipes.map((recipe, i) => [i, recipe] as const))(
  'recipe %i of docs/training.md runs',
  async (_, recipe) => {
    expect(parseRecipe(recipe).length).toBe(recipe.length);
    const place = nodePlace(mkdtempSync(join(tmpdir(), 'attenuate-training-docs-')));
    const made = await applyRecipe(madeEncoder(), recipe.map(small), {
      ...textContext(TEXTS),
      training: { texts: async () => TEXTS, place, threads: 1 },
    });
    expect(made.recipe).toHaveLength(recipe.length);
  },
);

it('the README names a recovery that a recipe may have', () => {
  const line = /\{ "step": "quantize", "bits": "ternary".*\}/.exec(read('README.md'))![0];
  expect(parseRecipe([JSON.parse(line)])).toHaveLength(1);
});
