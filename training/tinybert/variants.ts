import type { Recipe } from '../../src/compress/index.ts';
import recommended from './recipe.json' with { type: 'json' };

const [layers, ...stored] = recommended;
const recommendedBut = (change: object): Recipe => [{ ...layers, ...change }, ...stored];
/** The layers' losses first, in as much time as the recommended run takes: a pass with them costs twice one without. */
const WITH_LAYERS = { intermediate: 0.5, epochs: 2 };

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
  { name: 'distilled', title: 'distilled: the recommended recipe', recipe: recommended },
  {
    name: 'all-losses',
    title: 'distilled: all losses, half of the passes',
    recipe: recommendedBut(WITH_LAYERS),
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

/** Passes over the text in the ablation: a short run, in which losses differ most. */
export const ABLATION_EPOCHS = 0.5;
const short = (name: string, title: string, change: object = {}): Variant => ({
  name,
  title,
  recipe: recommendedBut({ intermediate: 0.5, ...change, epochs: ABLATION_EPOCHS }),
});

/** Runs with all of TinyBERT's losses, and with one left out each time. */
export const ABLATION: readonly Variant[] = [
  short('all', 'all losses'),
  short('no-embedding', 'without the embedding loss', { embedding: 0 }),
  short('no-hidden', 'without the hidden-state loss', { hidden: 0 }),
  short('no-attention', 'without the attention loss', { attention: 0 }),
  short('prediction', 'prediction loss alone', { intermediate: 0 }),
  short('no-prediction', 'without the prediction loss', { intermediate: 1 }),
];
