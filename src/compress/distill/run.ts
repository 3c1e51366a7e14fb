import { openArtifact } from '../../format/artifact.ts';
import { encodeArtifact } from '../../format/artifact-layout.ts';
import { hashModel, hashText } from '../../format/hash-model.ts';
import { memoryStore } from '../../format/memory-store.ts';
import { createTokenizer } from '../../format/tokenizer.ts';
import type { Model } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import type { Weight } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { Random } from '../../tensor/random.ts';
import { type TokenTexts, tokenTexts } from '../../train/data/tokens.ts';
import { type EncoderTraining, trainEncoder } from '../../train/encoder.ts';
import { foldLayers } from '../../train/fold.ts';
import type { Objective } from '../../train/objective/objective.ts';
import type { ObservedInputs } from '../quantize/statistics.ts';
import type { StepContext, TrainingContext } from '../step.ts';
import { buildStudent } from './student.ts';
import { layerMap, type StudentSpec } from './student-spec.ts';
import { stepsOf, type TrainingFields, updateOf } from './training-schema.ts';

/** What a step trains on, and a name for all that its result depends on. */
export interface TrainingSetting {
  readonly texts: readonly string[];
  readonly textsHash: string;
  readonly teacherHash: string;
  readonly key: string;
  readonly training: TrainingContext;
}

/** @throws `TRAINING_TEXT` where the context has no text to train on */
export async function settingOf(
  teacher: Model,
  options: unknown,
  { training, signal }: StepContext,
): Promise<TrainingSetting> {
  if (!training)
    throw new AttenuateError(
      'TRAINING_TEXT',
      '[distill] a step that trains needs text: expected some, got none. Pass texts to train on, and a folder to work in.',
    );
  const texts = await training.texts();
  const textsHash = await hashText(texts.join('\n'));
  const teacherHash = await hashModel(teacher, signal);
  const key = await hashText(JSON.stringify([teacherHash, textsHash, options]));
  return { texts, textsHash, teacherHash, key, training };
}

/** Token ids of the texts, cut for training. */
export const tokensOf = async (
  model: Model,
  { texts }: TrainingSetting,
  { maxTokens }: TrainingFields,
): Promise<TokenTexts> =>
  tokenTexts(texts, await createTokenizer(model.tokenizer!, Math.min(maxTokens, model.config.maxLength)));

/** How a run goes, in the setting's place. @param phase tells runs of one step apart */
export function runOptions(
  tokens: TokenTexts,
  options: TrainingFields,
  { training, key }: TrainingSetting,
  { signal }: StepContext,
  phase: string,
): Omit<EncoderTraining, 'objective'> {
  // By chance: texts often stand in the order of their labels or sources.
  const order = new Random(options.seed).permutation(tokens.count);
  const judged = Math.max(1, Math.round(options.heldOut * tokens.count));
  const [heldOut, trained] = [order.slice(0, judged).sort(), order.slice(judged).sort()];
  const steps = stepsOf(options, trained.length);
  const name = `${phase}${key.slice(0, 16)}`;
  const { files } = training.place;
  return {
    texts: tokens,
    training: trained,
    heldOut,
    batch: { size: options.batch, seed: options.seed },
    accumulate: options.accumulate,
    evaluateEvery: Math.max(1, Math.ceil(steps / options.evaluations)),
    update: updateOf(options, steps),
    dropout: options.dropout,
    patience: options.patience,
    platform: training.place.platform,
    threads: training.threads,
    wide: training.wide,
    memoryBytes: training.memoryBytes,
    checkpoint: {
      files,
      name: `checkpoint-${name}.safetensors`,
      key: `${phase}${key}`,
      everySeconds: 120,
      resume: true,
    },
    log: { files, name: `log-${name}.jsonl`, every: 10 },
    signal,
    onProgress: training.onProgress,
  };
}

/** One run of training; called again, it goes on where it was. */
export async function runTraining(
  model: Model,
  tokens: TokenTexts,
  objective: Objective,
  options: TrainingFields,
  setting: TrainingSetting,
  context: StepContext,
  phase = '',
): Promise<Model> {
  const run = runOptions(tokens, options, setting, context, phase);
  return (await trainEncoder(model, { ...run, objective })).model;
}

export interface StudentSource {
  readonly spec: StudentSpec;
  /** Texts, from the first, that fold layers into tables. */
  readonly foldTexts: number;
  /** The teacher as it runs, in float32 or int8. */
  readonly running: Model;
}

/** The untrained student, from the file of an earlier call where there is one. */
export async function madeStudent(
  teacher: Model,
  { spec, foldTexts, running }: StudentSource,
  options: TrainingFields,
  setting: TrainingSetting,
  context: StepContext,
): Promise<Model> {
  const { signal, onProgress } = context;
  const { files } = setting.training.place;
  const name = `student-${setting.key.slice(0, 16)}.safetensors`;
  const known = await files.open(name);
  if (known) return { ...(await inMemory(await openArtifact(known))), recipe: teacher.recipe };
  const all = await tokensOf(teacher, setting, options);
  const counts = new Float64Array(teacher.config.vocabularySize);
  for (let text = 0; text < all.count; text++) for (const id of all.ids(text)) counts[id]++;
  const folded = spec.fold
    ? await foldLayers(
        running,
        { ...all, count: Math.min(foldTexts, all.count) },
        {
          below: layerMap(spec, teacher.config.layers.length)[0],
          signal,
          onProgress: ({ done, total }) => onProgress?.('distill: fold layers', done / total),
        },
      )
    : undefined;
  const observed = await observedNeurons(teacher, spec, context);
  const student = await buildStudent(teacher, spec, { counts, folded, observed });
  signal?.throwIfAborted();
  await files.write(name, [await encodeArtifact(student)]);
  return student;
}

/** The model with its weights in memory, and its file closed. */
async function inMemory(model: Model): Promise<Model> {
  const weights = new Map<string, Weight>();
  for (const name of model.weights.specs.keys()) weights.set(name, await model.weights.read(name));
  await model.weights.close?.();
  return { ...model, weights: memoryStore(weights) };
}

/** What the neurons that may go do on the text, where it can be looked at. */
async function observedNeurons(
  teacher: Model,
  spec: StudentSpec,
  { observe }: StepContext,
): Promise<ObservedInputs | undefined> {
  const { layers } = teacher.config;
  const kept = layerMap(spec, layers.length);
  if (!observe || (spec.feedForwardSize ?? Infinity) >= layers[kept[0]].feedForwardSize) return undefined;
  return observe(teacher, {
    products: kept.map((layer) => `${names.layer(layer).down}.weight`),
    moments: true,
  });
}
