import { applyRecipe, parseRecipe, type RecipeStep, type StepContext } from '../../compress/index.ts';
import { parseWidth, type Width } from '../../compress/quantize/width.ts';
import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { seeded, shuffled } from '../random.ts';
import { sequencesOf } from '../sequences.ts';
import { artifactBytes } from './footprint.ts';
import { type FrontPoint, measureFront } from './front.ts';
import { measureLatency, timeModel } from './latency.ts';
import { chooseMixture, type MixtureLimits } from './mixture.ts';
import { OutputCheck } from './output-check.ts';
import { type RoundingMethod, Roundings } from './roundings.ts';
import { type KeptResults, measureSensitivity, type Sensitivity } from './sensitivity.ts';
import type { TaskMetric } from './task-metric.ts';
import { unitsOf } from './units.ts';

export type QuantizeMethod = RoundingMethod | 'smoothquant' | 'awq';

export interface MixtureSearchOptions {
  readonly limits: MixtureLimits;
  /** Default: `USUAL_WIDTHS`. */
  readonly widths?: readonly string[];
  /** Widths by hand. */
  readonly fixed?: ReadonlyMap<string, Width>;
  /** How codes are chosen in the end; `smoothquant` and `awq` are searched as `rtn`. Default `rtn`. */
  readonly method?: QuantizeMethod;
  /** What recipe steps may use of text. */
  readonly context?: StepContext;
  readonly task?: TaskMetric;
  /** Most texts to search on. Default 64. */
  readonly maxTexts?: number;
  /** Tokens at which a text is cut. Default 128. */
  readonly maxTokens?: number;
  /** Mixtures of other sizes to measure beside the chosen one. Default 0. */
  readonly frontPoints?: number;
  readonly seed?: number;
  readonly kept?: KeptResults;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: MixtureProgress) => void;
}

export interface MixtureProgress {
  readonly stage: 'sensitivity' | 'latency' | 'choose' | 'check' | 'front';
  readonly what: string;
  /** Of the whole search, 0 to 1. */
  readonly fraction: number;
}

/** What a search found and on what grounds; plain JSON but for the model. */
export interface MixtureSearch {
  readonly step: RecipeStep;
  readonly sensitivity: Sensitivity;
  readonly chosen: FrontPoint;
  readonly peakBytes: number | null;
  /** One text of mean length, measured here; null without a limit of latency. It may pass the limit by a little. */
  readonly latencyMs: number | null;
  /** The chosen mixture, others of other sizes, and uniform widths. */
  readonly front: readonly FrontPoint[];
  /** Texts that the search did not see, which its result was measured on. */
  readonly unseenTexts: number;
}

/** Parts of the whole that the stages end at, roughly: measuring what weights lose takes longest. */
const ENDS = { sensitivity: 0.75, latency: 0.8, choose: 0.85, check: 0.9, front: 1 } as const;

const LATENCY_ROUNDS = 3;

/**
 * Searches the widths of a model's weights that lose least within limits: measures what each weight loses in each
 * width, chooses by dynamic programming, builds the choice as its recipe step will, and measures it end to end, also
 * on text that the search did not see.
 * @throws as `measureSensitivity`, `chooseMixture` and `applyRecipe` do
 */
export async function findMixture(
  model: Model,
  texts: readonly string[],
  options: MixtureSearchOptions,
): Promise<MixtureSearch & { readonly model: Model }> {
  const { limits, widths, fixed, method = 'rtn', context = {}, task, kept, signal } = options;
  const { maxTokens = 128, seed = 1, frontPoints = 0 } = options;
  const { searched, unseen } = splitTexts(texts, options);
  const report = (stage: keyof typeof ENDS) => (what: string, fraction: number) => {
    const stages = Object.keys(ENDS) as (keyof typeof ENDS)[];
    const from = ENDS[stages[stages.indexOf(stage) - 1]] ?? 0;
    options.onProgress?.({ stage, what, fraction: from + (ENDS[stage] - from) * fraction });
  };
  const rounding: RoundingMethod = method === 'gptq' ? 'gptq' : 'rtn';
  const tell = report('sensitivity');
  const sensitivity = await measureSensitivity(model, searched, {
    ...{ widths, task, kept, signal, context, maxTokens, seed, method: rounding, maxTexts: searched.length },
    onProgress: ({ weight, fraction }) => tell(weight, fraction),
  });
  const program = await traceEncoder(model.config, model.weights.specs);
  const units = unitsOf(program, model.weights.specs, widths);
  const roundings = new Roundings(model, units, { method: rounding }, context);
  const tellTime = report('latency');
  const tokensOfText = Math.max(1, Math.round(sensitivity.tokens / sensitivity.texts));
  const latency =
    limits.latencyMs === undefined
      ? undefined
      : await measureLatency(model, units, {
          ...{ kept, signal, length: tokensOfText },
          onProgress: ({ what, fraction }) => tellTime(what, fraction),
        });

  const stepOf = (mixture: ReadonlyMap<string, string>) =>
    parseRecipe([{ step: 'quantize', method, mixed: compact(mixture, sensitivity) }])[0];
  const build = async (mixture: ReadonlyMap<string, string>): Promise<Model> => ({
    ...roundings.mixed(new Map([...mixture].map(([name, text]) => [name, parseWidth(text)]))),
    recipe: [...model.recipe, stepOf(mixture)],
  });
  const request = { sensitivity, build, fixed, latency, length: maxTokens };
  report('choose')('widths', 0);
  const { mixture, built, latencyMs } = await chooseAndBuild();
  report('check')('the mixture end to end', 0);
  const tokens = (part: readonly string[]) =>
    part.length === 0 ? [] : sequencesOf(model, part, { maxTexts: part.length, maxTokens, seed });
  const check = await OutputCheck.open(model, await tokens(searched), await tokens(unseen), signal);
  const chosen: FrontPoint = {
    ...{ name: 'mixed', kind: 'mixed', widths: Object.fromEntries(mixture.widths), chosen: true },
    ...{ sizeBytes: artifactBytes(built), predicted: mixture.loss, ...(await check.of(built)) },
  };
  const others =
    frontPoints === 0
      ? []
      : await measureFront(
          {
            ...{ sensitivity, build, onProgress: report('front') },
            choose: (sizeBytes) => chooseMixture({ ...request, limits: { sizeBytes } }),
            check: (other) => check.of(other),
          },
          frontPoints,
        );
  return {
    ...{ step: stepOf(mixture.widths), sensitivity, chosen, front: [chosen, ...others] },
    ...{ peakBytes: mixture.peakBytes, latencyMs },
    ...{ unseenTexts: unseen.length, model: built },
  };

  /**
   * The mixture as its recipe step builds it. What that adds to the weights is taken from their room, and so is what
   * the whole takes longer than its products by themselves.
   */
  async function chooseAndBuild() {
    let room = limits;
    for (let round = 1; ; round++) {
      const mixture = await chooseMixture({ ...request, limits: room });
      const built = await applyRecipe(model, [stepOf(mixture.widths)], context);
      const over = artifactBytes(built) - (limits.sizeBytes ?? Infinity);
      const latencyMs = latency ? await timeModel(built, tokensOfText, signal) : null;
      const late = (latencyMs ?? 0) - (limits.latencyMs ?? Infinity);
      // Times differ from run to run: what is a little late after a few rounds is what this device gives.
      if (over <= 0 && (late <= 0 || round >= LATENCY_ROUNDS)) return { mixture, built, latencyMs };
      room = {
        ...room,
        ...(over > 0 && { sizeBytes: room.sizeBytes! - over }),
        ...(late > 0 && { latencyMs: room.latencyMs! - late }),
      };
    }
  }
}

/** What is searched on and, of what is left, as much to measure the result on; a third of little text is kept back. */
function splitTexts(
  texts: readonly string[],
  { task, maxTexts = 64, seed = 1 }: MixtureSearchOptions,
): { searched: readonly string[]; unseen: readonly string[] } {
  const own = new Set(task?.texts);
  const rest = [...new Set(texts)].filter((text) => !own.has(text));
  const all = shuffled(rest, seeded(seed));
  const count = task ? 0 : Math.min(maxTexts, Math.ceil((all.length * 2) / 3));
  return { searched: task?.texts ?? all.slice(0, count), unseen: all.slice(count, count + maxTexts) };
}

/** A width for each weight, in the order in which the model reads them: a recipe of equal widths is equal text. */
const compact = (
  widths: ReadonlyMap<string, string>,
  { units }: Sensitivity,
): Readonly<Record<string, string>> =>
  Object.fromEntries(units.map(({ weight }) => [weight, widths.get(weight)!]));
