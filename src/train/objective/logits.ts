import { softCrossEntropy } from '../../program/gradient/losses.ts';
import { noLogits } from './labels.ts';
import { type Objective, textRows } from './objective.ts';

/**
 * Soft cross-entropy with a teacher's logits (Hinton, Vinyals and Dean 2015, section 2).
 * @param target the teacher's logits of a text
 */
export const logitsObjective = (target: (text: number) => Float32Array, temperature: number): Objective => ({
  loss(t, { logits }) {
    if (!logits) throw noLogits();
    return softCrossEntropy(t, logits, t.input('teacherLogits', 'float32', logits.shape), { temperature });
  },
  inputs: ({ texts }) => ({ teacherLogits: textRows(texts, target) }),
});
