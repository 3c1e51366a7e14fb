export { formatAttention, formatStep, parseAttention } from './notation.ts';
export { probeModel } from './probe.ts';
export {
  type Distribution,
  DistributionObserver,
  type Watch,
  type WatchedValue,
} from './quantize/distribution.ts';
export { Histogram } from './quantize/histogram.ts';
export { type ProductInput, productInputs } from './quantize/product-inputs.ts';
export {
  InputObserver,
  type InputStatistics,
  type ObservedInputs,
  type ObserveRequest,
  type ObserverState,
} from './quantize/statistics.ts';
export { applyRecipe, parseRecipe } from './recipe.ts';
export type { Recipe, RecipeStep, StepContext, StepDefinition } from './step.ts';
export { STEPS } from './steps.ts';
