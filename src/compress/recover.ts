import { z } from 'zod';
import type { Model } from '../model/config.ts';
import { isFloat } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { TokenTexts } from '../train/data/tokens.ts';
import { trainEncoder } from '../train/encoder.ts';
import { layersObjective } from '../train/objective/layers.ts';
import { type Objective, together } from '../train/objective/objective.ts';
import { RunningTeacher } from '../train/objective/teacher.ts';
import { runOptions, settingOf, tokensOf } from './distill/run.ts';
import { rowsFields, rowsObjective, runningTeacher } from './distill/teacher-rows.ts';
import { trainingFields } from './distill/training-schema.ts';
import { withCodes, withMasters } from './masters.ts';
import type { StepContext } from './step.ts';

/** `"recover"` of any step: what the step lost is trained back, against the model as it was before. */
export const recoverSchema = z.strictObject({
  temperature: z.number().positive().max(100).default(1),
  /** Whether what is stored as codes learns too, or floats alone. */
  codes: z.boolean().default(true),
  /** Weight of the loss of each layer's output, beside that of what the model gives; wide losses want it. */
  layers: z.number().min(0).max(1e6).default(0),
  ...rowsFields,
  ...trainingFields,
});
export type Recover = z.infer<typeof recoverSchema>;

/**
 * Trains a model that a step has changed to give what it gave before: embeddings, or the probabilities of classes, on
 * text without labels. Weights that are stored as codes learn behind them, in floats: every pass rounds them as they
 * will be stored, and gradients pass straight through (Bengio et al. 2013, section 4), so that what is stored in the
 * end is what was trained.
 * @throws `TRAINING_TEXT`, `WRONG_HEAD` for a masked-token head, `RECOVER_SCALED_INPUT`, `NOT_DIFFERENTIABLE` for attention that no gradient
 *   flows through
 */
export async function recover(
  before: Model,
  after: Model,
  options: Recover,
  step: unknown,
  context: StepContext,
): Promise<Model> {
  const { kind } = before.config.head;
  if (kind === 'maskedToken')
    throw new AttenuateError(
      'WRONG_HEAD',
      `[recover] head that there is no loss for: expected embedding or classification, got ${kind}. Leave "recover" out.`,
      { got: kind },
    );
  const scaled = [...after.weights.specs.keys()].find((name) => name.endsWith('.inputScale'));
  if (options.codes && scaled)
    throw new AttenuateError(
      'RECOVER_SCALED_INPUT',
      `[recover] codes of a product whose input is scaled on its way: expected none, got ${scaled}. Set "codes" to false, or quantise by another method.`,
      { name: scaled },
    );
  const setting = await settingOf(before, { step, recover: options }, context);
  const running = await runningTeacher(before, options);
  const tokens = await tokensOf(after, setting, options);
  const whole = await rowsObjective(running, options, setting, context);
  const { specs } = after.weights;
  const run = {
    ...runOptions(tokens, options, setting, context, 'recover-'),
    objective: options.layers > 0 ? await withLayers(whole, running, after, tokens, options) : whole,
  };
  if (!options.codes) {
    const trainable = (name: string) => isFloat(specs.get(name)!.codec);
    return (await trainEncoder(after, { ...run, trainable })).model;
  }
  const rule = {
    ternary: (step as { ternary?: unknown }).ternary === 'absmean' ? 'absmean' : 'twn',
  } as const;
  const { model } = await trainEncoder(await withMasters(before, after), {
    ...run,
    stored: { specs, ...rule },
  });
  return withCodes(model, specs, rule);
}

/** Each layer's output towards what it was, beside what the model gives. */
async function withLayers(
  whole: Objective,
  running: Model,
  after: Model,
  tokens: TokenTexts,
  { layers: hidden, seed }: Recover,
): Promise<Objective> {
  const map = after.config.layers.map((_, i) => i);
  const beside = await RunningTeacher.open(running, tokens);
  const layers = layersObjective(beside, after, { map, hidden, embedding: 0, seed });
  return together([
    [whole, 1],
    [layers, 1],
  ]);
}
