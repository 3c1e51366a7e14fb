import { z } from 'zod';
import type { Model } from '../model/config.ts';
import { isFloat } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { trainEncoder } from '../train/encoder.ts';
import { logitsObjective } from '../train/objective/logits.ts';
import { rowsFields, rowsObjective, runningTeacher } from './distill/embedding.ts';
import { runOptions, settingOf, tokensOf } from './distill/run.ts';
import { trainingFields } from './distill/training-schema.ts';
import type { StepContext } from './step.ts';

/** `"recover"` of any step: what the step lost is trained back, against the model as it was before. */
export const recoverSchema = z.strictObject({
  temperature: z.number().positive().max(100).default(1),
  ...rowsFields,
  ...trainingFields,
});
export type Recover = z.infer<typeof recoverSchema>;

/**
 * Trains a model that a step has changed to give what it gave before: embeddings, or the probabilities of classes, on
 * text without labels. Weights that are stored as codes stay as they are; those in floats, norms and biases among
 * them, learn to make up for it.
 * @throws `TRAINING_TEXT`, `WRONG_HEAD` for a masked-token head, `NOT_DIFFERENTIABLE` for attention that no gradient
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
  const setting = await settingOf(before, { step, recover: options }, context);
  const running = await runningTeacher(before, options);
  const tokens = await tokensOf(after, setting, options);
  const objective =
    kind === 'embedding'
      ? await rowsObjective(running, options, setting, context)
      : await logitsObjective(running, tokens, options.temperature);
  const { specs } = after.weights;
  const { model } = await trainEncoder(after, {
    ...runOptions(tokens, options, setting, context, 'recover-'),
    objective,
    trainable: (name) => isFloat(specs.get(name)!.codec),
  });
  return model;
}
