import { applyRecipe } from '../src/compress/index.ts';
import type { Model } from '../src/model/config.ts';
import { artifactBytes, findMixture, textContext } from '../src/optimize/index.ts';
import { loadModel } from '../src/runtime/index.ts';
import { correlationGain, type Interval } from './bootstrap.ts';
import { spearman } from './outputs.ts';
import { embedOurs, readPairs, scoresOf, similarities, trainingTexts } from './stsb.ts';

/** Similarities of STS-B's pairs by models, each model run once. */
export class StsbJudge {
  private readonly known = new Map<Model, Promise<number[]>>();

  private of(model: Model): Promise<number[]> {
    const found = this.known.get(model) ?? run(model);
    this.known.set(model, found);
    return found;
  }

  async score(model: Model): Promise<number> {
    return spearman(await this.of(model), scoresOf(await readPairs()));
  }

  /** What a model has over another one. */
  async gain(model: Model, other: Model): Promise<Interval> {
    return correlationGain(await this.of(model), await this.of(other), scoresOf(await readPairs()));
  }
}

async function run(model: Model): Promise<number[]> {
  const loaded = await loadModel(model, { threads: 1 });
  try {
    return await similarities(await readPairs(), embedOurs(loaded));
  } finally {
    loaded.dispose();
  }
}

/** Everything in int4, groups of 32, each value to the nearest. */
export const UNIFORM_INT4 = { step: 'quantize', bits: 4, embeddings: 'int4-g32' } as const;

/** The mixture of widths that loses least at a uniform model's size, searched on text of STS-B's training part. */
export async function mixtureAtSizeOf(float: Model, uniform: Model, frontPoints = 0) {
  const texts = await trainingTexts();
  return findMixture(float, texts, {
    limits: { sizeBytes: artifactBytes(uniform) },
    context: textContext(texts),
    frontPoints,
    onProgress: ({ what, fraction }) =>
      process.stderr.write(`\r${Math.round(100 * fraction)} % ${what}        `),
  });
}

export const uniformInt4 = (float: Model): Promise<Model> => applyRecipe(float, [UNIFORM_INT4]);
