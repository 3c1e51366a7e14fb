import type { z } from 'zod';
import type { Calibration } from '../attention/mechanism.ts';
import type { Model } from '../model/config.ts';
import type { MachineOptions } from '../train/machine.ts';
import type { TrainingPlace } from '../train/place.ts';
import type { TrainingProgress } from '../train/train.ts';
import type { Distribution, Watch } from './quantize/distribution.ts';
import type { ObservedInputs, ObserveRequest } from './quantize/statistics.ts';

/** One step of a recipe as JSON: `step` and a variant choose the definition, the rest are its options. */
export interface RecipeStep {
  readonly step: string;
  readonly [option: string]: unknown;
}

/** An ordered list of steps; JSON, so that it can be written by hand, searched and stored in an artifact. */
export type Recipe = readonly RecipeStep[];

/**
 * A compression technique. `apply` is pure: it gives a new Model that shares what did not change, and reads
 * weights only when the new Model's are read.
 */
export interface StepDefinition<Options extends RecipeStep = RecipeStep> {
  readonly step: string;
  /** The option that tells steps of one name apart, e.g. `kind: 'local'` of `attention`; null for the only one. */
  readonly variant: { readonly option: string; readonly value: string | number } | null;
  readonly summary: string;
  /** Of the whole step, strict; parsing fills in the defaults. */
  readonly schema: z.ZodType<Options>;
  apply(model: Model, options: Options, context: StepContext): Model | Promise<Model>;
}

/** What a step that trains works with. */
export interface TrainingContext extends Omit<MachineOptions, 'platform'> {
  /** All of them, in an order that does not change. */
  texts(): Promise<readonly string[]>;
  /** The label of each text, where they have some. */
  labels?(): Promise<readonly string[]>;
  /** Where finished parts and the state of a run are kept; the same files again let it go on. */
  readonly place: TrainingPlace;
  readonly onProgress?: (progress: TrainingProgress) => void;
}

/** What a step may use beside the model. */
export interface StepContext {
  /** Runs the user's text through a model and keeps what its layers saw; absent where there is no text. */
  readonly calibrate?: (model: Model) => Promise<Calibration>;
  /** Statistics of what a model's products read when the user's text runs through it; absent where there is no text. */
  readonly observe?: (model: Model, request: ObserveRequest) => Promise<ObservedInputs>;
  /** Absent where nothing may be trained. */
  readonly training?: TrainingContext;
  /** How some values of a model's Program are distributed when the user's text runs through it, by their names. */
  readonly watch?: (model: Model, watch: Watch) => Promise<ReadonlyMap<string, Distribution>>;
  readonly signal?: AbortSignal;
  /** What a step that takes long is at: a few words, and the part that is done, 0 to 1. */
  readonly onProgress?: (what: string, fraction: number) => void;
}
