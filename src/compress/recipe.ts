import type { z } from 'zod';
import type { Model } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import { type Recover, recover, recoverSchema } from './recover.ts';
import type { Recipe, RecipeStep, StepContext, StepDefinition } from './step.ts';
import { STEPS } from './steps.ts';

const invalid = (index: number, what: string, expected: string, got: unknown, action: string) =>
  new AttenuateError(
    'RECIPE_INVALID',
    `[recipe] ${what}: expected ${expected}, got ${JSON.stringify(got) ?? 'nothing'}. ${action}`,
    { step: index, got },
  );

const label = ({ step, variant }: StepDefinition) =>
  JSON.stringify({ step, ...(variant && { [variant.option]: variant.value }) });

function definitionOf(raw: unknown, index: number): StepDefinition {
  const given = raw as RecipeStep;
  if (typeof raw !== 'object' || raw === null || typeof given.step !== 'string')
    throw invalid(index, `step ${index} has no name`, 'an object with "step"', raw, 'Name a step.');
  const named = STEPS.filter(({ step }) => step === given.step);
  if (named.length === 0) {
    const known = [...new Set(STEPS.map(({ step }) => step))].join(', ');
    throw invalid(index, `unknown step ${index}`, `one of ${known}`, given.step, 'Correct "step".');
  }
  const found = named.find(({ variant }) => !variant || given[variant.option] === variant.value);
  if (!found)
    throw invalid(
      index,
      `unknown variant of step ${index}`,
      named.map(label).join(' or '),
      given,
      'Choose a known variant.',
    );
  return found;
}

function checkStep(raw: unknown, index: number): [StepDefinition, RecipeStep] {
  const definition = definitionOf(raw, index);
  const { recover, ...own } = raw as RecipeStep;
  const parsed = definition.schema.safeParse(own);
  const recovered = recoverSchema.optional().safeParse(recover);
  if (parsed.success && recovered.success)
    return [definition, recovered.data ? { ...parsed.data, recover: recovered.data } : parsed.data];
  const issue: z.core.$ZodIssue = (parsed.error ?? recovered.error!).issues[0];
  throw invalid(
    index,
    `bad option ${issue.path.join('.') || 'names'} of step ${index}`,
    issue.message,
    raw,
    'Correct the option.',
  );
}

/** Checks a recipe read from JSON and fills in defaults. @throws `RECIPE_INVALID` naming the step and what is known. */
export function parseRecipe(value: unknown): Recipe {
  if (!Array.isArray(value))
    throw invalid(-1, 'not a recipe', 'a list of steps', value, 'Write a JSON list of {"step": …} objects.');
  return value.map((raw, i) => checkStep(raw, i)[1]);
}

/** Applies each step in order; the new Model's `recipe` grows by the steps, defaults filled in. The given Model is left as it was. */
export async function applyRecipe(model: Model, recipe: unknown, context: StepContext = {}): Promise<Model> {
  let current = model;
  for (const step of parseRecipe(recipe)) {
    const [definition, options] = checkStep(step, current.recipe.length - model.recipe.length);
    const { recover: recovering, ...own } = options as RecipeStep & { readonly recover?: Recover };
    const changed = await definition.apply(current, own, context);
    const next = recovering ? await recover(current, changed, recovering, own, context) : changed;
    current = { ...next, recipe: [...current.recipe, options] };
  }
  return current;
}
