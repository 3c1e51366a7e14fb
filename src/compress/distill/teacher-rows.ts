import { z } from 'zod';
import { hashText } from '../../format/hash-model.ts';
import type { Model } from '../../model/config.ts';
import { loadOn } from '../../runtime/load.ts';
import type { TextModel } from '../../runtime/types.ts';
import { fillTeacherCache, openTeacherCache } from '../../train/data/teacher-cache.ts';
import type { TokenTexts } from '../../train/data/tokens.ts';
import { embeddingObjective } from '../../train/objective/embedding.ts';
import { logitsObjective } from '../../train/objective/logits.ts';
import type { Objective } from '../../train/objective/objective.ts';
import { quantize } from '../quantize/quantize.ts';
import type { StepContext } from '../step.ts';
import { type TrainingSetting, tokensOf } from './run.ts';
import type { TrainingFields } from './training-schema.ts';

/** How a teacher's rows are made and kept. */
export const rowsFields = {
  /** How the teacher runs: as it is, or with its products in int8, which is faster. */
  teacher: z.enum(['float32', 'int8']).default('float32'),
  /** Most bytes of teacher outputs that are kept. */
  cacheBytes: z
    .int()
    .min(0)
    .default(2 ** 30),
} as const;
const rowsObject = z.strictObject(rowsFields);
export type RowsFields = z.infer<typeof rowsObject>;

/** The teacher as it runs: as it is, or with products in int8 and its table as it was. */
export const runningTeacher = async (teacher: Model, { teacher: precision }: RowsFields): Promise<Model> =>
  precision === 'int8'
    ? quantize.apply(teacher, quantize.schema.parse({ step: 'quantize', bits: 8, embeddings: false }), {})
    : teacher;

type Rows = (from: number, to: number, signal?: AbortSignal) => Promise<readonly Float32Array[]>;

/**
 * Regression on what the teacher gives in the end, its embeddings or its probabilities, which is computed first where
 * the place has not got it.
 */
export async function rowsObjective(
  running: Model,
  options: RowsFields & TrainingFields & { readonly temperature?: number },
  setting: TrainingSetting,
  { signal, onProgress }: StepContext,
): Promise<Objective> {
  const { texts, textsHash, teacherHash, training } = setting;
  const { teacher, cacheBytes, maxTokens, temperature = 1 } = options;
  const classifies = running.config.head.kind === 'classification';
  const what = [teacherHash, textsHash, teacher, ...(classifies ? [maxTokens] : [])];
  const hash = await hashText(JSON.stringify(what));
  const { files, platform } = training.place;
  const model = await loadOn(platform, running, { threads: 1 });
  try {
    const rowsOf: Rows = classifies
      ? logitRows(model, await tokensOf(running, setting, options))
      : (from, to, stop) => model.embed(texts.slice(from, to), { signal: stop });
    const width = (await rowsOf(0, 1))[0].length;
    const rows = { key: hash.slice(0, 16), texts: texts.length, width };
    await fillTeacherCache(
      files,
      {
        ...rows,
        limitBytes: cacheBytes,
        signal,
        onProgress: ({ done, total }) => onProgress?.('distill: run the teacher', done / total),
      },
      rowsOf,
    );
    const row = await openTeacherCache(files, rows);
    return classifies ? logitsObjective(row, temperature) : embeddingObjective(row);
  } finally {
    model.dispose();
  }
}

/** Least probability: its logarithm is a float16 of fine steps. */
const LEAST = 1e-12;

/** Logarithms of probabilities: logits but for a constant, which no softmax sees. */
const logitRows =
  (model: TextModel, tokens: TokenTexts): Rows =>
  async (from, to, signal) => {
    const ids = Array.from({ length: to - from }, (_, i) => [...tokens.ids(from + i)]);
    const rows = await model.run(ids, { signal });
    return rows.map((row) => row.map((p) => Math.log(Math.max(p, LEAST))));
  };
