import { z } from 'zod';
import type { Model } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { layersObjective } from '../../train/objective/layers.ts';
import { logitsObjective } from '../../train/objective/logits.ts';
import type { StepDefinition } from '../step.ts';
import { rowsFields, rowsObjective, runningTeacher } from './embedding.ts';
import { madeStudent, runTraining, settingOf, tokensOf } from './run.ts';
import { layerMap, studentSchema } from './student-spec.ts';
import { trainingFields } from './training-schema.ts';

const weight = z.number().min(0).max(1e6);

const schema = z.strictObject({
  step: z.literal('distill'),
  kind: z.literal('layers'),
  student: studentSchema.prefault({}),
  /** Weight of each loss of the intermediate phase; 0 leaves it out. */
  hidden: weight.default(1),
  embedding: weight.default(1),
  /** Share of the run that the intermediate phase takes; the rest is for what the model gives in the end. */
  intermediate: z.number().min(0).max(1).default(0.5),
  temperature: z.number().positive().max(100).default(1),
  ...rowsFields,
  ...trainingFields,
});
type Options = z.infer<typeof schema>;

/**
 * Layer-wise distillation in two phases (TinyBERT; Jiao et al. 2020, section 3): what layers and embedding give, through
 * learned projections, then what the head gives. The teacher runs beside the student.
 */
export const distillLayers: StepDefinition<Options> = {
  step: 'distill',
  variant: { option: 'kind', value: 'layers' },
  summary: 'a smaller student trained layer by layer, then on what its teacher gives in the end',
  schema,
  async apply(model, options, context) {
    expectTokens(options);
    const setting = await settingOf(model, options, context);
    const running = await runningTeacher(model, options);
    const source = { spec: options.student, foldTexts: 1, running };
    const student = await madeStudent(model, source, options, setting, context);
    const tokens = await tokensOf(student, setting, options);
    const map = layerMap(options.student, model.config.layers.length);
    const { hidden, embedding, intermediate, seed, temperature } = options;
    const part = (share: number) => ({
      ...options,
      epochs: options.epochs * share,
      steps: options.steps && Math.max(1, Math.round(options.steps * share)),
    });
    let current = student;
    if (intermediate > 0) {
      const objective = await layersObjective(running, student, tokens, { map, hidden, embedding, seed });
      current = await runTraining(
        current,
        tokens,
        objective,
        part(intermediate),
        setting,
        context,
        'layers-',
      );
    }
    if (intermediate < 1) {
      const objective = classifies(model)
        ? await logitsObjective(running, tokens, temperature)
        : await rowsObjective(running, options, setting, context);
      current = await runTraining(current, tokens, objective, part(1 - intermediate), setting, context);
    }
    return current;
  },
};

const classifies = ({ config: { head } }: Model): boolean => head.kind === 'classification';

/** Layers are compared token by token, so that both must read the same tokens from the same tables. */
function expectTokens({ student, hidden, embedding, intermediate }: Options): void {
  if (student.vocabulary !== undefined || student.fold)
    throw new AttenuateError(
      'STUDENT_UNSUPPORTED',
      '[distill] layers that cannot be compared: expected a student with its teacher’s vocabulary and layers from the first, got a pruned vocabulary or folded layers. Leave those out, or distil embeddings.',
    );
  if (intermediate > 0 && hidden === 0 && embedding === 0)
    throw new AttenuateError(
      'DISTILL_NOTHING',
      '[distill] an intermediate phase without a loss: expected a weight above 0 for hidden or embedding, got none. Give one, or set intermediate to 0.',
    );
}
