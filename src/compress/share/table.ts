import { z } from 'zod';
import { buildStudent } from '../distill/student.ts';
import { studentSchema } from '../distill/student-spec.ts';
import type { StepDefinition } from '../step.ts';

const schema = z.strictObject({
  step: z.literal('share'),
  kind: z.literal('table'),
  /** Width of the tables; a projection that all tokens share widens them. */
  size: z.int().min(1).max(65_536),
});
type Options = z.infer<typeof schema>;

/**
 * A factorised word table (ALBERT; Lan et al. 2020, section 3.1): narrow rows, and one projection that all of them
 * share, by the table's leading eigenvectors; every token counts alike. `distill` weighs tokens by how often the text
 * has them.
 */
export const shareTable: StepDefinition<Options> = {
  step: 'share',
  variant: { option: 'kind', value: 'table' },
  summary: 'a narrow word table with one projection for all tokens',
  schema,
  apply: (model, { size }) => buildStudent(model, studentSchema.parse({ tableSize: size })),
};
