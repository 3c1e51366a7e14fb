import { crossEntropy } from '../../program/gradient/losses.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Objective } from './objective.ts';

/** Cross-entropy with labels. @param labelOf the place of a text's label in the head's list, or −1 for none */
export const labelsObjective = (labelOf: (text: number) => number, smoothing = 0): Objective => ({
  loss(t, { logits }) {
    if (!logits) throw noLogits();
    return crossEntropy(t, logits, t.input('labels', 'int32', logits.shape.slice(0, -1)), { smoothing });
  },
  inputs: ({ texts }) => ({ labels: Int32Array.from(texts, labelOf) }),
});

export const noLogits = () =>
  new AttenuateError(
    'WRONG_HEAD',
    '[train] model without logits: expected a classification head, got another. Give it one first.',
  );
