import { cosineDistance } from '../../program/gradient/losses.ts';
import { type Objective, textRows } from './objective.ts';

/** Mean of 1 − cos between a text's embedding and the teacher's. @param target the teacher's embedding of a text */
export const embeddingObjective = (target: (text: number) => Float32Array): Objective => ({
  loss: (t, { output }) => cosineDistance(t, output, t.input('target', 'float32', output.shape)),
  inputs: ({ texts }) => ({ target: textRows(texts, target) }),
});
