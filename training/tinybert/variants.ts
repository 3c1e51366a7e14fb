import type { Recipe } from '../../src/compress/index.ts';
import recommended from './recipe.json' with { type: 'json' };

const [layers, ...stored] = recommended;
const without = (change: object): Recipe => [{ ...layers, ...change }, ...stored];

/** How a student comes to be. */
export interface Variant {
  readonly name: string;
  readonly title: string;
  /** What is done to the fine-tuned teacher. */
  readonly recipe: Recipe;
  /** Whether the first step's student is fine-tuned on labels instead of distilled. */
  readonly labelsAlone?: boolean;
  /** Layers that are kept, the rest dropped, with no training after. */
  readonly untrained?: { readonly layers: number };
}

export const VARIANTS: readonly Variant[] = [
  { name: 'distilled', title: 'distilled: all losses', recipe: recommended },
  {
    name: 'prediction-alone',
    title: 'distilled: prediction loss alone, for the whole run',
    recipe: without({ intermediate: 0 }),
  },
  {
    name: 'labels',
    title: 'the same student without distillation, on labels',
    recipe: recommended,
    labelsAlone: true,
  },
  {
    name: 'dropped',
    title: 'layers dropped and quantised, no training after',
    recipe: stored,
    untrained: { layers: 2 },
  },
];

/** Passes over the text in the ablation: a quarter of the recommended run, in which losses differ most. */
export const ABLATION_EPOCHS = 0.5;
const short = (name: string, title: string, change: object = {}): Variant => ({
  name,
  title,
  recipe: without({ ...change, epochs: ABLATION_EPOCHS }),
});

/** The recommended run cut short, whole and with one loss left out each time. */
export const ABLATION: readonly Variant[] = [
  short('all', 'all losses'),
  short('no-embedding', 'without the embedding loss', { embedding: 0 }),
  short('no-hidden', 'without the hidden-state loss', { hidden: 0 }),
  short('no-attention', 'without the attention loss', { attention: 0 }),
  short('prediction', 'prediction loss alone', { intermediate: 0 }),
  short('no-prediction', 'without the prediction loss', { intermediate: 1 }),
];
