import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { MECHANISMS } from '../attention/all.ts';
import { textContext } from '../optimize/index.ts';
import { Random } from '../tensor/random.ts';
import { nodePlace } from '../train/index.ts';
import { applyRecipe } from './recipe.ts';
import type { StepContext } from './step.ts';

const WORDS = 'a small model runs in the page and node alike with every word known to it'.split(' ');
const random = new Random(8);
const TEXTS = Array.from({ length: 120 }, () =>
  Array.from({ length: 4 + random.integer(12) }, () => WORDS[random.integer(WORDS.length)]).join(' '),
);

function context(onScore: (score: number) => void): StepContext {
  return {
    ...textContext(TEXTS),
    training: {
      texts: async () => TEXTS,
      place: nodePlace(mkdtempSync(join(tmpdir(), 'attenuate-recover-'))),
      threads: 1,
      onProgress: ({ score }) => score !== null && onScore(score),
    },
  };
}

describe('recovery of every attention mechanism', () => {
  const recover = { steps: 24, batch: 16, heldOut: 0.2, evaluations: 3, learningRate: 1e-3, layers: 1 };

  it.each(MECHANISMS.map((mechanism) => [mechanism.kind, mechanism] as const))(
    '%s',
    async (kind, { examples }) => {
      const scores: number[] = [];
      await applyRecipe(
        madeEncoder(),
        [{ ...examples[0], step: 'attention', kind, recover }],
        context((score) => scores.push(score)),
      );
      expect(scores.length).toBeGreaterThan(0);
      expect(scores.every(Number.isFinite)).toBe(true);
      // A mechanism that changes nothing on texts so short has nothing to bring back.
      if (scores[0] > 1e-6) expect(Math.min(...scores)).toBeLessThan(scores[0]);
    },
  );
});
