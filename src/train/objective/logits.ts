import type { Model } from '../../model/config.ts';
import { softCrossEntropy } from '../../program/gradient/losses.ts';
import type { TokenTexts } from '../data/tokens.ts';
import { noLogits } from './labels.ts';
import type { Objective } from './objective.ts';
import { RunningTeacher } from './teacher.ts';

/** Soft cross-entropy with a teacher's logits (Hinton, Vinyals and Dean 2015, section 2). */
export async function logitsObjective(
  teacher: Model,
  texts: TokenTexts,
  temperature: number,
): Promise<Objective> {
  const running = await RunningTeacher.open(teacher, texts, ({ logits }) => {
    if (!logits) throw noLogits();
    return [logits];
  });
  return {
    loss(t, { logits }) {
      if (!logits) throw noLogits();
      return softCrossEntropy(t, logits, t.input('teacherLogits', 'float32', logits.shape), { temperature });
    },
    async inputs(batch) {
      const [teacherLogits] = await running.run(batch);
      return { teacherLogits };
    },
    dispose: () => running.dispose(),
  };
}
