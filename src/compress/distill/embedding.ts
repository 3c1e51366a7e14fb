import { z } from 'zod';
import type { Model } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { StepDefinition } from '../step.ts';
import { madeStudent, runTraining, settingOf, tokensOf } from './run.ts';
import { type StudentSpec, studentSchema } from './student-spec.ts';
import { rowsFields, rowsObjective, runningTeacher } from './teacher-rows.ts';
import { trainingFields } from './training-schema.ts';

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
