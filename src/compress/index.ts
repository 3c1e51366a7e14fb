export { formatAttention, formatStep, parseAttention } from './notation.ts';
export { applyRecipe, parseRecipe } from './recipe.ts';
export type { Recipe, RecipeStep, StepContext, StepDefinition } from './step.ts';
export { STEPS } from './steps.ts';
