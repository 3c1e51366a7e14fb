import { AttenuateError } from '../tensor/error.ts';

/** Texts of one length, so that a batch has no padding. */
export interface Batch {
  readonly length: number;
  /** Places of the texts in the caller's list. */
  readonly members: readonly number[];
}

/** Rows beyond which a larger batch only costs memory. */
const BATCH_TOKENS = 2048;

/** Groups texts by their exact length, longest first, at most about 2,048 tokens at a time. */
export function groupByLength(lengths: readonly number[]): Batch[] {
  const groups = new Map<number, number[]>();
  lengths.forEach((length, i) => {
    const group = groups.get(length);
    if (group) group.push(i);
    else groups.set(length, [i]);
  });
  return [...groups]
    .sort(([a], [b]) => b - a)
    .flatMap(([length, members]) => {
      const size = Math.max(1, Math.floor(BATCH_TOKENS / Math.max(1, length)));
      return Array.from({ length: Math.ceil(members.length / size) }, (_, i) => ({
        length,
        members: members.slice(i * size, (i + 1) * size),
      }));
    });
}

/** The error for token ids that the model cannot take, or null. */
export function invalidIds(
  ids: readonly number[],
  vocabulary: number,
  maxLength: number,
): AttenuateError | null {
  if (ids.length === 0)
    return new AttenuateError(
      'INPUT_EMPTY',
      '[run] empty sequence: expected at least one token, got none. Leave the text out or pass a special token.',
    );
  if (ids.length > maxLength)
    return new AttenuateError(
      'INPUT_TOO_LONG',
      `[run] sequence too long: expected at most ${maxLength} tokens, got ${ids.length}. Cut it, or load with tilePositions for measurements.`,
      { length: ids.length, maxLength },
    );
  const bad = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabulary));
  return bad === undefined
    ? null
    : new AttenuateError(
        'INPUT_TOKEN',
        `[run] unknown token id: expected 0 to ${vocabulary - 1}, got ${bad}. Use this model's tokenizer.`,
        { id: bad },
      );
}
