import type { Recipe } from '../compress/index.ts';
import type { Model } from '../model/config.ts';
import { isMatrix, names } from '../model/names.ts';
import { columnsOf, GROUP_SIZES, isFloat, type WeightSpec } from '../tensor/codec.ts';
import { quantile } from './metrics.ts';
import type { Budget, CandidateRow } from './result.ts';

export interface Candidate {
  readonly name: string;
  readonly recipe: Recipe;
}

const WINDOWS = [64, 128] as const;
/** Share of texts that a window must cut for it to be worth building. */
const CUT_SHARE = 0.05;

/** Name of the row that the others are compared with. */
export const baselineName = (model: Model): string =>
  [...model.weights.specs.values()].every(({ codec }) => isFloat(codec)) ? 'float' : 'given';

/**
 * Recipes worth building for a model and the token counts of the data, the empty one left out. Those that were asked
 * for stand in place of the usual windows.
 * @param text whether there is text that steps can be calibrated on
 */
export function candidates(
  model: Model,
  lengths: readonly number[],
  text: boolean,
  asked?: readonly Candidate[],
): Candidate[] {
  const quantizers = widths(model, text && model.tokenizer !== null);
  const long = quantile(lengths, 1 - CUT_SHARE);
  const dense = model.config.layers.every(({ attention }) => attention.kind === 'dense');
  const windows = WINDOWS.filter((window) => dense && long > window + 1).flatMap((window): Candidate[] => {
    const local = { step: 'attention', kind: 'local', left: window, right: window };
    const all = { name: `local(${window})`, recipe: [local] };
    const alternate = {
      name: `local(${window}) in every 2nd layer`,
      recipe: [{ ...local, layers: { every: 2, offset: 0 } }],
    };
    return model.config.layers.length > 1 ? [all, alternate] : [all];
  });
  const others = asked ?? windows;
  const both = others
    .filter(({ recipe }) => !recipe.some(({ step }) => step === 'quantize'))
    .flatMap(({ name, recipe }) =>
      quantizers.slice(0, 1).map((q) => ({ name: `${name} + ${q.name}`, recipe: [...recipe, ...q.recipe] })),
    );
  return [...quantizers, ...others, ...both];
}

/** The model in 8 and in 4 bits: to the nearest code, and where there is text by the methods that look at it. */
function widths({ weights: { specs } }: Model, text: boolean): Candidate[] {
  const open = [...specs].filter(([name, { codec }]) => isMatrix(name) && isFloat(codec));
  const word = open.find(([name]) => name === names.word);
  const products = open.length > (word ? 1 : 0);
  const step = (name: string, options: object): Candidate => ({
    name,
    recipe: [{ step: 'quantize', ...options }],
  });
  const list: Candidate[] = [];
  if (open.length > 0) list.push(step('int8', { bits: 8 }));
  if (!products) return list;
  if (text) list.push(step('int8 smoothed', { bits: 8, method: 'smoothquant' }));
  const int4 = { bits: 4, ...(text && { method: 'gptq' }) };
  if (!word) return [...list, step('int4', int4)];
  list.push(step('int4, int8 embeddings', { ...int4, embeddings: 'int8' }));
  if (text) list.push(step('int4', { ...int4, embeddings: `int4${groupOf(word[1])}` }));
  return list;
}

/** The largest groups that a table's rows split into: a lookup has less to lose by them than a product. */
function groupOf({ shape }: WeightSpec): string {
  const size = GROUP_SIZES.toReversed().find((group) => columnsOf(shape) % group === 0);
  return size === undefined ? '' : `-g${size}`;
}

type Compared = Pick<CandidateRow, 'sizeBytes' | 'plannedPeakBytes' | 'latencyMs' | 'drop'>;

/** True where no other row is at least as good in size, planned peak, latency and drop, and better in one. */
export function paretoFront(rows: readonly Compared[]): boolean[] {
  const axes = rows.map((r) => [r.sizeBytes, r.plannedPeakBytes, r.latencyMs.median, r.drop.value]);
  return axes.map(
    (own) => !axes.some((other) => other.every((v, i) => v <= own[i]) && other.some((v, i) => v < own[i])),
  );
}

/**
 * With a limit on size, memory or latency the resources are settled, and accuracy is what is left to win. With
 * none, the drop limit says what accuracy may be given up for: the smallest.
 */
export const goalOf = (budget: Budget): 'smallest' | 'least-drop' =>
  budget.maxSizeBytes === undefined &&
  budget.maxMemoryBytes === undefined &&
  budget.maxLatencyMs === undefined
    ? 'smallest'
    : 'least-drop';

/** The best row that meets the budget, or null. Ties go to the smaller, then to the faster. */
export function choose<R extends Compared & { readonly meetsBudget: boolean }>(
  rows: readonly R[],
  goal: 'smallest' | 'least-drop',
): R | null {
  const keys = (r: R) =>
    goal === 'smallest'
      ? [r.sizeBytes, r.latencyMs.median, r.drop.value]
      : [r.drop.value, r.sizeBytes, r.latencyMs.median];
  const feasible = rows.filter(({ meetsBudget }) => meetsBudget);
  feasible.sort((a, b) => {
    const [x, y] = [keys(a), keys(b)];
    const at = x.findIndex((v, i) => v !== y[i]);
    return at < 0 ? 0 : x[at] - y[at];
  });
  return feasible[0] ?? null;
}
