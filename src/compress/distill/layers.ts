import { z } from 'zod';
import type { Model } from '../../model/config.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { TokenTexts } from '../../train/data/tokens.ts';
import { attentionObjective } from '../../train/objective/attention.ts';
import { layersObjective } from '../../train/objective/layers.ts';
import { type Objective, together } from '../../train/objective/objective.ts';
import { RunningTeacher } from '../../train/objective/teacher.ts';
import type { StepDefinition } from '../step.ts';
import { expectEmbedding } from './embedding.ts';
import { madeStudent, runTraining, settingOf, tokensOf } from './run.ts';
import { layerMap, studentSchema } from './student-spec.ts';
import { rowsFields, rowsObjective, runningTeacher } from './teacher-rows.ts';
import { trainingFields } from './training-schema.ts';

const weight = z.number().min(0).max(1e6);

const schema = z.strictObject({
  step: z.literal('distill'),
  kind: z.literal('layers'),
  student: studentSchema.prefault({}),
  /** Weight of each loss of the intermediate phase; 0 leaves it out. */
  hidden: weight.default(1),
  embedding: weight.default(1),
  /** Of attention: TinyBERT's scores, MiniLM's attention and values, or MiniLMv2's relations; of `compare`'s layers. */
  attention: weight.default(1),
  compare: z.enum(['scores', 'attention', 'relations']).default('scores'),
  /** Heads that relations are split into; default: the student's. */
  relationHeads: z.int().min(1).max(4096).optional(),
  /** Share of the run that the intermediate phase takes; the rest is for what the model gives in the end. */
  intermediate: z.number().min(0).max(1).default(0.5),
  temperature: z.number().positive().max(100).default(1),
  ...rowsFields,
  ...trainingFields,
});
type Options = z.infer<typeof schema>;

/**
 * Layer-wise distillation in two phases (TinyBERT; Jiao et al. 2020, section 3): what layers and embedding give, through
 * learned projections, and how tokens attend; then what the head gives. The teacher runs beside the student.
 */
export const distillLayers: StepDefinition<Options> = {
  step: 'distill',
  variant: { option: 'kind', value: 'layers' },
  summary: 'a smaller student trained layer by layer, then on what its teacher gives in the end',
  schema,
  async apply(model, options, context) {
    expectTokens(options);
    if (options.intermediate < 1 && !classifies(model)) expectEmbedding(model, options.student);
    const setting = await settingOf(model, options, context);
    const running = await runningTeacher(model, options);
    const source = { spec: options.student, foldTexts: 1, running };
    const student = await madeStudent(model, source, options, setting, context);
    const tokens = await tokensOf(student, setting, options);
    const map = layerMap(options.student, model.config.layers.length);
    const { intermediate } = options;
    const part = (share: number) => ({
      ...options,
      epochs: options.epochs * share,
      steps: options.steps && Math.max(1, Math.round(options.steps * share)),
    });
    let current = student;
    if (intermediate > 0) {
      const objective = await intermediateObjective(running, student, tokens, map, options);
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
      const objective = await rowsObjective(running, options, setting, context);
      current = await runTraining(current, tokens, objective, part(1 - intermediate), setting, context);
    }
    return current;
  },
};

/** The losses of the intermediate phase that have a weight. MiniLM's look at the last layer alone. */
async function intermediateObjective(
  teacher: Model,
  student: Model,
  tokens: TokenTexts,
  map: readonly number[],
  { hidden, embedding, attention, compare, relationHeads, seed }: Options,
): Promise<Objective> {
  const parts: [Objective, number][] = [];
  const beside = await RunningTeacher.open(teacher, tokens);
  if (hidden > 0 || embedding > 0)
    parts.push([layersObjective(beside, student, { map, hidden, embedding, seed }), 1]);
  if (attention > 0) {
    const pairs = map.map((from, to) => [to, from] as const);
    const objective = attentionObjective(beside, {
      map: compare === 'scores' ? pairs : pairs.slice(-1),
      compare,
      relationHeads: relationHeads ?? student.config.layers[0].heads,
    });
    parts.push([objective, attention]);
  }
  return together(parts);
}

const classifies = ({ config: { head } }: Model): boolean => head.kind === 'classification';

/** Layers are compared token by token, so that both must read the same tokens from the same tables. */
function expectTokens({ student, hidden, embedding, attention, intermediate }: Options): void {
  if (student.vocabulary !== undefined || student.fold)
    throw new AttenuateError(
      'STUDENT_UNSUPPORTED',
      '[distill] layers that cannot be compared: expected a student with its teacher’s vocabulary and layers from the first, got a pruned vocabulary or folded layers. Leave those out, or distil embeddings.',
    );
  if (intermediate > 0 && hidden === 0 && embedding === 0 && attention === 0)
    throw new AttenuateError(
      'DISTILL_NOTHING',
      '[distill] an intermediate phase without a loss: expected a weight above 0 for hidden, embedding or attention, got none. Give one, or set intermediate to 0.',
    );
}
