import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { formatStep, parseAttention, parseRecipe, type Recipe, type RecipeStep } from '../compress/index.ts';
import type { Candidate } from '../optimize/index.ts';
import { AttenuateError } from '../tensor/error.ts';
import { usageError } from './command.ts';
import { readLines } from './texts.ts';

/** What `--attention` names, in order. @throws `USAGE` naming what cannot be read and what is known */
export function attentionSteps(command: string, text: string): RecipeStep[] {
  try {
    return parseAttention(text);
  } catch (error) {
    if (!(error instanceof AttenuateError)) throw error;
    throw usageError(command, `bad --attention: ${error.message.replace(/^\[attention\] /, '')}`, {
      ...error.fields,
      code: error.code,
    });
  }
}

/** A recipe from a JSON file: a list of steps. @throws `USAGE`, `RECIPE_INVALID` */
export async function readRecipe(command: string, path: string): Promise<Recipe> {
  const text = await readFile(path, 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usageError(command, `recipe that is no JSON: ${path}: ${(error as Error).message}.`, { path });
  }
  return parseRecipe(value);
}

/** Candidates that `--attention` and `--recipe` ask for; undefined where neither is given. @throws `USAGE` */
export async function askedCandidates(
  command: string,
  { attention, recipe }: { readonly attention?: string; readonly recipe?: string },
): Promise<Candidate[] | undefined> {
  if (attention === undefined && recipe === undefined) return undefined;
  const named = attention === undefined ? [] : attentionSteps(command, attention);
  const paths = recipe?.split(',').map((path) => path.trim()) ?? [];
  const files = await Promise.all(
    paths.map(async (path) => ({
      name: basename(path, '.json'),
      recipe: await readRecipe(command, path),
    })),
  );
  return distinct([...named.map((step) => ({ name: formatStep(step), recipe: [step] })), ...files]);
}

/** Names tell rows apart. */
function distinct(candidates: readonly Candidate[]): Candidate[] {
  const seen = new Map<string, number>();
  return candidates.map(({ name, recipe }) => {
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    return { name: times > 1 ? `${name} (${times})` : name, recipe };
  });
}

/** The lines of `--calibrate`; undefined where it is not given. @throws `USAGE` for a file without text */
export const calibrationLines = async (
  command: string,
  path: string | undefined,
): Promise<string[] | undefined> =>
  path === undefined ? undefined : readLines(command, createReadStream(path));

export const CALIBRATE_FLAG = {
  type: 'string',
  valueHint: 'file',
  description: 'Text, one a line, for steps that are made from what the model sees of it',
} as const;
