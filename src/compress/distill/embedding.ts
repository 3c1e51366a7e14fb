import { z } from 'zod';
import { hashText } from '../../format/hash-model.ts';
import type { Model } from '../../model/config.ts';
import { loadOn } from '../../runtime/load.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { fillTeacherCache, openTeacherCache } from '../../train/data/teacher-cache.ts';
import { embeddingObjective } from '../../train/objective/embedding.ts';
import type { Objective } from '../../train/objective/objective.ts';
import { quantize } from '../quantize/quantize.ts';
import type { StepContext, StepDefinition } from '../step.ts';
import { madeStudent, runTraining, settingOf, type TrainingSetting, tokensOf } from './run.ts';
import { type StudentSpec, studentSchema } from './student-spec.ts';
import { trainingFields } from './training-schema.ts';

/** How a teacher's rows are made and kept. */
export const rowsFields = {
  /** How the teacher runs: its products in int8 take a third of the time. */
  teacher: z.enum(['float32', 'int8']).default('float32'),
  /** Most bytes of teacher outputs that are kept. */
  cacheBytes: z
    .int()
    .min(0)
    .default(2 ** 30),
} as const;
const rowsObject = z.strictObject(rowsFields);
export type RowsFields = z.infer<typeof rowsObject>;

const schema = z.strictObject({
  step: z.literal('distill'),
  kind: z.literal('embedding'),
  student: studentSchema.prefault({}),
  /** Texts, from the first, that fold layers into tables. */
  foldTexts: z.int().min(1).default(50_000),
  ...rowsFields,
  ...trainingFields,
});
type Options = z.infer<typeof schema>;

/**
 * A student trained to give its teacher's embeddings, on text without labels (Reimers and Gurevych 2020, section 2, in
 * one language). What is finished stays in the context's place: the teacher's rows, the untrained student, the run's
 * state; called again, it goes on there.
 */
export const distillEmbedding: StepDefinition<Options> = {
  step: 'distill',
  variant: { option: 'kind', value: 'embedding' },
  summary: 'a smaller student that gives its teacher’s embeddings, trained on text without labels',
  schema,
  async apply(model, options, context) {
    expectEmbedding(model, options.student);
    const setting = await settingOf(model, options, context);
    const running = await runningTeacher(model, options);
    const objective = await rowsObjective(running, options, setting, context);
    const source = { spec: options.student, foldTexts: options.foldTexts, running };
    const student = await madeStudent(model, source, options, setting, context);
    const tokens = await tokensOf(student, setting, options);
    return runTraining(student, tokens, objective, options, setting, context);
  },
};

/** @throws `WRONG_HEAD`; `STUDENT_SIZE` for a student whose embeddings could not be compared with its teacher's */
export function expectEmbedding({ config: { head, embeddingSize } }: Model, { width }: StudentSpec): void {
  if (head.kind !== 'embedding')
    throw new AttenuateError(
      'WRONG_HEAD',
      `[distill] teacher with another head: expected embedding, got ${head.kind}. Choose another kind of distillation.`,
      { got: head.kind },
    );
  if (width !== undefined && width !== embeddingSize && !head.dense)
    throw new AttenuateError(
      'STUDENT_SIZE',
      `[distill] embeddings of another width: expected ${embeddingSize} as the teacher has, got ${width}. Leave "width" out, or distil layers alone (intermediate 1).`,
      { expected: embeddingSize, got: width },
    );
}

/** The teacher as it runs: as it is, or with products in int8 and its table as it was. */
export const runningTeacher = async (teacher: Model, { teacher: precision }: RowsFields): Promise<Model> =>
  precision === 'int8'
    ? quantize.apply(teacher, quantize.schema.parse({ step: 'quantize', bits: 8, embeddings: false }), {})
    : teacher;

/** Regression on the teacher's rows, which are computed first where the place has not got them. */
export async function rowsObjective(
  running: Model,
  { teacher, cacheBytes }: RowsFields,
  { texts, textsHash, teacherHash, training }: TrainingSetting,
  { signal, onProgress }: StepContext,
): Promise<Objective> {
  const hash = await hashText(JSON.stringify([teacherHash, textsHash, teacher]));
  const { files, platform } = training.place;
  const model = await loadOn(platform, running, { threads: 1 });
  try {
    const width = (await model.embed([texts[0]]))[0].length;
    const rows = { key: hash.slice(0, 16), texts: texts.length, width };
    await fillTeacherCache(
      files,
      {
        ...rows,
        limitBytes: cacheBytes,
        signal,
        onProgress: ({ done, total }) => onProgress?.('distill: run the teacher', done / total),
      },
      (from, to, stop) => model.embed(texts.slice(from, to), { signal: stop }),
    );
    return embeddingObjective(await openTeacherCache(files, rows));
  } finally {
    model.dispose();
  }
}
