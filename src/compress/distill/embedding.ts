import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeArtifact } from '../../format/node/artifact-writer.ts';
import { hashModel } from '../../format/node/hash-model.ts';
import { openModel } from '../../format/node/open.ts';
import { createTokenizer } from '../../format/tokenizer.ts';
import type { Model } from '../../model/config.ts';
import { names } from '../../model/names.ts';
import { loadModel } from '../../runtime/index.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { fillTeacherCache, openTeacherCache } from '../../train/data/teacher-cache.ts';
import { tokenTexts } from '../../train/data/tokens.ts';
import { trainEncoder } from '../../train/encoder.ts';
import { foldLayers } from '../../train/fold.ts';
import { embeddingObjective } from '../../train/objective/embedding.ts';
import { quantizeInt8 } from '../quantize/int8.ts';
import type { ObservedInputs } from '../quantize/statistics.ts';
import type { StepContext, StepDefinition, TrainingContext } from '../step.ts';
import { buildStudent } from './student.ts';
import { layerMap, studentSchema } from './student-spec.ts';
import { stepsOf, trainingFields, updateOf } from './training-schema.ts';

const schema = z.strictObject({
  step: z.literal('distill'),
  kind: z.literal('embedding'),
  student: studentSchema.prefault({}),
  /** Texts, from the first, that fold layers into tables. */
  foldTexts: z.int().min(1).default(50_000),
  /** How the teacher runs: its products in int8 take a third of the time. */
  teacher: z.enum(['float32', 'int8']).default('float32'),
  /** Most bytes of teacher outputs on disk. */
  cacheBytes: z
    .int()
    .min(0)
    .default(2 ** 30),
  ...trainingFields,
});
type Options = z.infer<typeof schema>;

/**
 * A student trained to give its teacher's embeddings, on text without labels (Reimers and Gurevych 2020, section 2, in
 * one language). What is finished stays in the context's folder: the teacher's rows, the untrained student, the run's
 * state; called again, it goes on there.
 */
export const distillEmbedding: StepDefinition<Options> = {
  step: 'distill',
  variant: { option: 'kind', value: 'embedding' },
  summary: 'a smaller student that gives its teacher’s embeddings, trained on text without labels',
  schema,
  async apply(model, options, context) {
    const training = expectTraining(context);
    if (model.config.head.kind !== 'embedding')
      throw new AttenuateError(
        'WRONG_HEAD',
        `[distill] teacher with another head: expected embedding, got ${model.config.head.kind}. Choose another kind of distillation.`,
        { got: model.config.head.kind },
      );
    const texts = await training.texts();
    const textsHash = sha256(texts.join('\n'));
    const teacherHash = await hashModel(model, context.signal);
    const at = (name: string) => join(training.folder, name);
    const rows = {
      path: at('teacher.f16'),
      key: sha256(JSON.stringify([teacherHash, textsHash, options.teacher])),
    };
    const running = options.teacher === 'int8' ? await inInt8(model) : model;
    const width = await cacheRows(running, options, texts, rows, context);
    const key = sha256(JSON.stringify([teacherHash, textsHash, options]));
    const student = await madeStudent(
      model,
      running,
      options,
      texts,
      at(`student-${key}.safetensors`),
      context,
    );
    const cache = await openTeacherCache(rows.path, rows.key, width);
    const tokens = tokenTexts(
      texts,
      await createTokenizer(student.tokenizer!, Math.min(options.maxTokens, student.config.maxLength)),
    );
    const split = texts.length - Math.max(1, Math.round(options.heldOut * texts.length));
    const steps = stepsOf(options, split);
    const { model: trained } = await trainEncoder(student, {
      texts: tokens,
      objective: embeddingObjective(cache.row),
      training: range(0, split),
      heldOut: range(split, texts.length),
      batch: { size: options.batch, seed: options.seed },
      evaluateEvery: Math.max(1, Math.ceil(steps / options.evaluations)),
      update: updateOf(options, steps),
      dropout: options.dropout,
      patience: options.patience,
      threads: training.threads,
      checkpoint: { path: at('checkpoint.safetensors'), key, everySeconds: 120, resume: true },
      log: { path: at('log.jsonl'), every: 10 },
      signal: context.signal,
      onProgress: training.onProgress,
    });
    return trained;
  },
};

function expectTraining({ training }: StepContext): TrainingContext {
  if (training) return training;
  throw new AttenuateError(
    'TRAINING_TEXT',
    '[distill] a step that trains needs text: expected some, got none. Pass texts to train on, and a folder to work in.',
  );
}

/** The teacher with products in int8, its table as it was. */
const inInt8 = async (teacher: Model): Promise<Model> =>
  quantizeInt8.apply(
    teacher,
    { step: 'quantize', bits: 8, embeddings: false, head: true, layers: 'all' },
    {},
  );

/** Sees to it that the teacher's rows are on the disk; gives their width. */
async function cacheRows(
  teacher: Model,
  { cacheBytes }: Options,
  texts: readonly string[],
  { path, key }: { readonly path: string; readonly key: string },
  { signal, onProgress }: StepContext,
): Promise<number> {
  const model = await loadModel(teacher, { threads: 1 });
  try {
    const width = (await model.embed([texts[0]]))[0].length;
    await fillTeacherCache(
      {
        path,
        key,
        texts: texts.length,
        width,
        limitBytes: cacheBytes,
        signal,
        onProgress: ({ done, total }) => onProgress?.('distill: run the teacher', done / total),
      },
      (from, to, stop) => model.embed(texts.slice(from, to), { signal: stop }),
    );
    return width;
  } finally {
    model.dispose();
  }
}

/** The untrained student, from the file of an earlier call where there is one. */
async function madeStudent(
  teacher: Model,
  running: Model,
  { student: spec, foldTexts, maxTokens }: Options,
  texts: readonly string[],
  path: string,
  context: StepContext,
): Promise<Model> {
  const { signal, onProgress } = context;
  if (existsSync(path)) return { ...(await openModel(path)), recipe: teacher.recipe };
  const tokenizer = await createTokenizer(teacher.tokenizer!, Math.min(maxTokens, teacher.config.maxLength));
  const all = tokenTexts(texts, tokenizer);
  const counts = new Float64Array(teacher.config.vocabularySize);
  for (let text = 0; text < all.count; text++) for (const id of all.ids(text)) counts[id]++;
  const below = layerMap(spec, teacher.config.layers.length)[0];
  const folded = spec.fold
    ? await foldLayers(
        running,
        { ...all, count: Math.min(foldTexts, all.count) },
        {
          below,
          signal,
          onProgress: ({ done, total }) => onProgress?.('distill: fold layers', done / total),
        },
      )
    : undefined;
  const observed = await observedNeurons(teacher, spec, context);
  const student = await buildStudent(teacher, spec, { counts, folded, observed });
  await writeArtifact(student, path, { signal });
  return student;
}

/** What the neurons that may go do on the text, where it can be looked at. */
async function observedNeurons(
  teacher: Model,
  spec: Options['student'],
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

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const range = (from: number, to: number): Uint32Array =>
  Uint32Array.from({ length: to - from }, (_, i) => from + i);
