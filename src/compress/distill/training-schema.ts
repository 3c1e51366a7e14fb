import { z } from 'zod';
import { defaultGroups, type UpdateOptions } from '../../train/options.ts';

/** Options of a training run, as JSON; the same wherever a recipe trains. */
export const trainingFields = {
  /** Passes over the text; `steps`, where given, counts instead. */
  epochs: z.number().positive().max(1000).default(1),
  steps: z.int().min(1).max(100_000_000).optional(),
  /** Texts in a step. */
  batch: z.int().min(1).max(4096).default(64),
  /** Equal parts that the texts of a step run in, one after another: less memory for the same step. Default 1. */
  accumulate: z.int().min(1).max(4096).optional(),
  learningRate: z.number().positive().max(1).default(3e-4),
  /** Share of the steps over which the rate rises. */
  warmup: z.number().min(0).max(1).default(0.05),
  decay: z.enum(['linear', 'cosine', 'none']).default('cosine'),
  /** What the rate ends at, as a share of its peak. */
  floor: z.number().min(0).max(1).default(0.05),
  weightDecay: z.number().min(0).max(1).default(0.01),
  beta1: z.number().min(0).max(1).default(0.9),
  beta2: z.number().min(0).max(1).default(0.999),
  /** Largest norm of the gradient; null for no limit. */
  maxNorm: z.number().positive().nullable().default(1),
  dropout: z.number().min(0).max(0.9).default(0),
  /** Evaluations without progress after which the run ends. */
  patience: z.int().min(1).optional(),
  /** Evaluations in the whole run. */
  evaluations: z.int().min(1).max(10_000).default(12),
  /** Share of the texts that are held out to judge by. */
  heldOut: z.number().positive().max(0.5).default(0.01),
  /** Tokens at which a text is cut while training. */
  maxTokens: z.int().min(3).max(100_000).default(64),
  seed: z.int().min(0).max(4_294_967_295).default(1),
} as const;

const trainingObject = z.strictObject(trainingFields);
export type TrainingFields = z.infer<typeof trainingObject>;

/** Steps of a run over so many texts. */
export const stepsOf = ({ epochs, steps, batch }: TrainingFields, texts: number): number =>
  steps ?? Math.max(1, Math.round((epochs * texts) / batch));

export const updateOf = (options: TrainingFields, steps: number): UpdateOptions => ({
  schedule: {
    peak: options.learningRate,
    steps,
    warmup: Math.round(options.warmup * steps),
    decay: options.decay,
    floor: options.floor,
  },
  beta1: options.beta1,
  beta2: options.beta2,
  epsilon: 1e-8,
  maxNorm: options.maxNorm,
  groups: defaultGroups(options.weightDecay),
});
