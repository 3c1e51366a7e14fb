import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { buildStudent } from '../src/compress/distill/student.ts';
import { studentSchema } from '../src/compress/distill/student-spec.ts';
import { applyRecipe } from '../src/compress/index.ts';
import { loadModel } from '../src/runtime/index.ts';
import { cosine } from './outputs.ts';
import { cosineWithReference, levelsOf, REFERENCE_COSINE } from './reference.ts';
import type { Row } from './report.ts';
import type { Subjects } from './subjects.ts';
import { interleave } from './timing.ts';
import { openWeb, WEB } from './web-peer.ts';

const RECIPE = fileURLToPath(new URL('../training/tinybert/recipe.json', import.meta.url));
const LENGTH = 128;
/** Tokens that the reference is run on. */
const SHORT = 16;
const LEAST = 9;

/**
 * The shape of the distilled student, stored as its recipe says, against its teacher in float32 in the peer. Times do
 * not depend on what was learnt: the student is cut out of the teacher and not trained.
 */
export async function tinybertRow(subjects: Subjects): Promise<Row> {
  const [{ student: spec }, ...stored] = JSON.parse(await readFile(RECIPE, 'utf8'));
  const teacher = await subjects.model('float32');
  const float = await buildStudent(teacher, studentSchema.parse(spec));
  const student = await applyRecipe(float, stored);
  const [ours, plain] = [await loadModel(student, { threads: 1 }), await loadModel(float, { threads: 1 })];
  const peer = await openWeb(subjects, 'float32');
  const ids = await subjects.ids(LENGTH);
  const similarity = cosine((await ours.run([ids]))[0].slice(), (await plain.run([ids]))[0]);
  const reference = await cosineWithReference(student, ours, ids.slice(0, SHORT), levelsOf(ours.info));
  const { mediansMs, ratios } = await interleave([() => ours.run([ids]), () => peer.run(ids)]);
  ours.dispose();
  plain.dispose();
  await peer.dispose();
  return {
    id: 'tinybert-n128',
    metric:
      'median time of a run, batch 1, one thread: the student of docs/cards/tinybert.md; peer: its teacher in float32',
    unit: 'ms',
    better: 'lower',
    ours: mediansMs[0],
    peers: { [WEB]: mediansMs[1] },
    ratio: ratios[1],
    agrees: similarity >= 0.99 && reference >= REFERENCE_COSINE && ratios[1] >= LEAST,
    tolerance: `cosine with the same student in float32 ≥ 0.99, with the float64 reference of the same codes ≥ ${REFERENCE_COSINE}, at least ${LEAST}×`,
    details: { 'cosine with float32': similarity, 'cosine with reference': reference },
  };
}
