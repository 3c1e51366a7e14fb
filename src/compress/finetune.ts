import { z } from 'zod';
import { hashText } from '../format/hash-model.ts';
import { memoryStore } from '../format/memory-store.ts';
import type { Model } from '../model/config.ts';
import { names } from '../model/names.ts';
import { encode, type Weight } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';
import { Random } from '../tensor/random.ts';
import { labelsObjective } from '../train/objective/labels.ts';
import { runTraining, settingOf, tokensOf } from './distill/run.ts';
import { trainingFields } from './distill/training-schema.ts';
import type { StepDefinition } from './step.ts';

const schema = z.strictObject({
  step: z.literal('finetune'),
  kind: z.literal('classification'),
  /** Share of each label that is spread over all. */
  smoothing: z.number().min(0).max(0.9).default(0),
  ...trainingFields,
  learningRate: z.number().positive().max(1).default(5e-5),
  epochs: z.number().positive().max(1000).default(3),
  dropout: z.number().min(0).max(0.9).default(0.1),
  batch: z.int().min(1).max(4096).default(32),
  heldOut: z.number().positive().max(0.5).default(0.1),
});
type Options = z.infer<typeof schema>;

/**
 * A classifier fine-tuned end to end on labelled text (Devlin et al. 2019, section 4.1): the encoder with a pooler and
 * a classifier over its first token. A model that has these labels already goes on with its own head.
 */
export const finetuneClassification: StepDefinition<Options> = {
  step: 'finetune',
  variant: { option: 'kind', value: 'classification' },
  summary: 'a classification head, trained end to end on your labels',
  schema,
  async apply(model, options, context) {
    const setting = await settingOf(model, options, context);
    const given = await setting.training.labels?.();
    if (!given || given.length !== setting.texts.length)
      throw new AttenuateError(
        'TRAINING_LABELS',
        `[finetune] labels of other texts: expected ${setting.texts.length}, got ${given?.length ?? 'none'}. Pass labelled text.`,
        { texts: setting.texts.length, labels: given?.length },
      );
    const labels = [...new Set(given)].sort();
    const places = new Map(labels.map((label, i) => [label, i]));
    const classifier = await withHead(model, labels, options.seed);
    const tokens = await tokensOf(classifier, setting, options);
    const objective = labelsObjective((text) => places.get(given[text])!, options.smoothing);
    const named = { ...setting, key: await hashText(setting.key + given.join('\n')) };
    return runTraining(classifier, tokens, objective, options, named, context);
  },
};

/** Deviation of new weights (Devlin et al. 2019). */
const DEVIATION = 0.02;

/** The encoder with a head for the labels: its own where it has just those, else a new one. */
async function withHead(model: Model, labels: readonly string[], seed: number): Promise<Model> {
  const { head, layers, embeddingSize } = model.config;
  if (head.kind === 'classification' && head.labels.join('\n') === labels.join('\n')) return model;
  const C = layers.at(-1)?.outputSize ?? embeddingSize;
  const random = new Random(seed);
  const made = new Map<string, Weight>();
  for (const [name, rows] of [
    [names.head.pooler, C],
    [names.head.classifier, labels.length],
  ] as const) {
    const weight = random.gaussians(rows * C, DEVIATION);
    made.set(`${name}.weight`, encode({ codec: 'float32', shape: [rows, C] }, weight));
    made.set(`${name}.bias`, encode({ codec: 'float32', shape: [rows] }, new Float32Array(rows)));
  }
  const own = [...model.weights.specs].filter(([name]) => !name.startsWith('head.'));
  const heads = memoryStore(made);
  return {
    ...model,
    config: { ...model.config, head: { kind: 'classification', labels, poolerActivation: 'tanh' } },
    weights: {
      specs: new Map([...own, ...heads.specs]),
      read: (name) => (made.has(name) ? heads.read(name) : model.weights.read(name)),
      close: model.weights.close && (() => model.weights.close!()),
    },
  };
}
