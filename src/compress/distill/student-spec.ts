import { z } from 'zod';
import { AttenuateError } from '../../tensor/error.ts';

const size = (most: number) => z.int().min(1).max(most);

/** What a student is, as JSON: whatever is absent stays as the teacher has it. */
export const studentSchema = z.strictObject({
  /** Teacher layers to begin with, in order; or how many, chosen by `map`. */
  layers: z.union([size(1000), z.array(z.int().min(0)).min(1)]).optional(),
  /** `uniform` the last of each block of layers, `first` the lowest ones, `last` the highest, `ends` half of each. */
  map: z.enum(['uniform', 'first', 'last', 'ends']).default('uniform'),
  width: size(65_536).optional(),
  heads: size(4096).optional(),
  feedForwardSize: size(1_000_000).optional(),
  /** Width of the word table; a projection widens it. */
  tableSize: size(65_536).optional(),
  /** Most tokens of the vocabulary: those that the text has most often, and every single character. */
  vocabulary: size(10_000_000).optional(),
  maxLength: size(1_000_000).optional(),
  /** Whether what the teacher's layers below the first chosen one do goes into the tables: needs text. */
  fold: z.boolean().default(false),
});
export type StudentSpec = z.infer<typeof studentSchema>;

/**
 * Which teacher layer each student layer begins as.
 * @throws `STUDENT_LAYERS` when a layer is missing or they do not ascend
 */
export function layerMap({ layers, map }: Pick<StudentSpec, 'layers' | 'map'>, teacher: number): number[] {
  const all = Array.from({ length: teacher }, (_, i) => i);
  if (layers === undefined) return all;
  if (Array.isArray(layers)) {
    if (layers.some((l, i) => l >= teacher || (i > 0 && l <= layers[i - 1]))) throw wrong(layers, teacher);
    return layers;
  }
  if (layers > teacher) throw wrong(layers, teacher);
  switch (map) {
    case 'first':
      return all.slice(0, layers);
    case 'last':
      return all.slice(teacher - layers);
    case 'ends': {
      const low = Math.ceil(layers / 2);
      return [...all.slice(0, low), ...all.slice(teacher - (layers - low))];
    }
    default:
      return Array.from({ length: layers }, (_, i) => Math.ceil(((i + 1) * teacher) / layers) - 1);
  }
}

const wrong = (got: unknown, teacher: number) =>
  new AttenuateError(
    'STUDENT_LAYERS',
    `[distill] layers that the teacher lacks: expected at most ${teacher} layers in ascending order, got ${JSON.stringify(got)}. Change "layers".`,
    { teacher, layers: got },
  );
