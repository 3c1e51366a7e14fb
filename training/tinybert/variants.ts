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
  { name: 'no-embedding', title: 'without the embedding loss', recipe: without({ embedding: 0 }) },
  { name: 'no-hidden', title: 'without the hidden-state loss', recipe: without({ hidden: 0 }) },
  { name: 'no-attention', title: 'without the attention loss', recipe: without({ attention: 0 }) },
  { name: 'prediction', title: 'prediction loss alone', recipe: without({ intermediate: 0 }) },
  { name: 'no-prediction', title: 'without the prediction loss', recipe: without({ intermediate: 1 }) },
];
