import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { madeStudent, settingOf } from '../../src/compress/distill/run.ts';
import { runningTeacher } from '../../src/compress/distill/teacher-rows.ts';
import { applyRecipe, parseRecipe, type Recipe, type StepContext } from '../../src/compress/index.ts';
import { openModel, writeArtifact } from '../../src/format/index.ts';
import type { Model } from '../../src/model/config.ts';
import { accuracy, observeInputs } from '../../src/optimize/index.ts';
import { load } from '../../src/runtime/index.ts';
import { nodePlace, type TrainingProgress } from '../../src/train/index.ts';
import { augmented } from './augment.ts';
import type { Figure } from './figures.ts';
import type { Task } from './tasks.ts';
import type { Variant } from './variants.ts';

const finetune = ({ finetune: options }: Task, seed: number) => ({
  step: 'finetune',
  kind: 'classification',
  ...options,
  batch: 32,
  heldOut: 0.05,
  evaluations: 6,
  seed,
});
/** Texts without labels for each one with: see `augmented`. */
const AUGMENTED = 1;
/** Texts on which neurons are weighed. */
const OBSERVED = 1000;

export interface RunOptions {
  readonly task: Task;
  readonly seed: number;
  /** Where unfinished work and artifacts stand. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TrainingProgress) => void;
}

type Found = Pick<Figure, 'accuracy' | 'bytes' | 'texts' | 'minutes'>;

/** The teacher fine-tuned on the task's labels; its artifact stands as `teacher.safetensors`. */
export async function makeTeacher(encoder: Model, options: RunOptions): Promise<Found> {
  const { task, seed } = options;
  const context = await contextOf(options, task.train);
  return finish(encoder, [finetune(task, seed)], context, task.train.length, options, 'teacher');
}

export const teacherFile = ({ folder }: RunOptions): string => join(folder, 'teacher.safetensors');

/** One student of the teacher that `makeTeacher` left. */
export async function makeStudent(variant: Variant, options: RunOptions): Promise<Found> {
  const { task, seed } = options;
  const teacher = await openModel(teacherFile(options));
  const texts = task.train.map(({ text }) => text);
  const more = augmented(texts, AUGMENTED, seed).map((text) => ({ text, label: '' }));
  const trained = variant.labelsAlone ? task.train : [...more, ...task.train];
  const context = await contextOf(options, trained);
  const recipe = parseRecipe(variant.recipe).map((step) =>
    step.step === 'distill' ? { ...step, seed } : step,
  );
  const [begin, rest] =
    variant.labelsAlone || variant.untrained
      ? [await untrained(teacher, variant, seed, context), recipe.filter(({ step }) => step !== 'distill')]
      : [teacher, recipe];
  const steps = variant.labelsAlone ? [finetune(task, seed), ...rest] : rest;
  const found = await finish(
    begin,
    steps,
    context,
    variant.untrained ? 0 : trained.length,
    options,
    `${variant.name}-${seed}`,
  );
  await teacher.weights.close?.();
  return found;
}

/** The student as distillation begins with it. */
async function untrained(
  teacher: Model,
  { recipe, untrained: spec }: Variant,
  seed: number,
  context: StepContext,
): Promise<Model> {
  const student = spec ?? (recipe[0] as unknown as { student: object }).student;
  const [options] = parseRecipe([{ step: 'distill', kind: 'layers', student, seed }]) as unknown as [
    Parameters<typeof madeStudent>[2] & Parameters<typeof runningTeacher>[1] & { student: never },
  ];
  const setting = await settingOf(teacher, options, context);
  const source = { spec: options.student, foldTexts: 1, running: await runningTeacher(teacher, options) };
  return madeStudent(teacher, source, options, setting, context);
}

async function contextOf(
  { folder, signal, onProgress }: RunOptions,
  rows: Task['train'],
): Promise<StepContext> {
  const work = join(folder, 'work');
  await mkdir(work, { recursive: true });
  const texts = rows.map(({ text }) => text);
  return {
    signal,
    observe: async (model, request) =>
      (await observeInputs(model, texts, request, { maxTexts: OBSERVED, maxTokens: 64, signal })).inputs,
    training: {
      texts: async () => texts,
      labels: async () => rows.map(({ label }) => label),
      place: nodePlace(work),
      threads: 1,
      wide: true,
      onProgress,
    },
  };
}

/** Applies a recipe, writes the artifact, and measures it. */
async function finish(
  model: Model,
  recipe: Recipe,
  context: StepContext,
  texts: number,
  { task, folder, signal }: RunOptions,
  name: string,
): Promise<Found> {
  const begun = performance.now();
  const made = await applyRecipe(model, recipe, context);
  const minutes = (performance.now() - begun) / 60_000;
  const file = join(folder, `${name}.safetensors`);
  const { byteLength: bytes } = await writeArtifact(made, file, { signal });
  const loaded = await load(file, { threads: 1 });
  const found = await loaded.classify(
    task.test.map(({ text }) => text),
    { signal },
  );
  loaded.dispose();
  const share = accuracy(
    found.map(({ label }) => label),
    task.test.map(({ label }) => label),
  );
  return { accuracy: share, bytes, texts, minutes };
}
