import { Random } from '../../tensor/random.ts';
import type { TokenTexts } from './tokens.ts';

/** Which texts make a batch, and the length that they are padded to. */
export interface TextBatch {
  readonly texts: readonly number[];
  readonly length: number;
}

export interface BatchOptions {
  /** Texts in a batch. */
  readonly size: number;
  readonly seed: number;
}

/** Batches that are sorted by length together: more pads less, fewer mixes better. */
const WINDOW = 32;

/**
 * One pass over texts: shuffled, put together with others of about their length, and the batches shuffled again.
 * Depends on seed and epoch alone, so that a run can go on anywhere. Texts that do not fill a last batch are left out
 * of this pass.
 */
export function epochBatches(
  lengths: Pick<TokenTexts, 'length'>,
  texts: Uint32Array,
  epoch: number,
  { size, seed }: BatchOptions,
): TextBatch[] {
  const random = new Random(seed + Math.imul(epoch + 1, 0x9e3779b1));
  const order = Array.from(random.permutation(texts.length), (i) => texts[i]);
  const batches: TextBatch[] = [];
  for (let from = 0; from < order.length; from += WINDOW * size) {
    const window = order.slice(from, from + WINDOW * size);
    window.sort((a, b) => lengths.length(a) - lengths.length(b) || a - b);
    for (let at = 0; at + size <= window.length; at += size) {
      const chosen = window.slice(at, at + size);
      batches.push({ texts: chosen, length: lengths.length(chosen[size - 1]) });
    }
  }
  return Array.from(random.permutation(batches.length), (i) => batches[i]);
}

/** The inputs that a traced encoder takes for a batch: padded ids, lengths, and token types of 0. */
export function encoderInputs(
  tokens: TokenTexts,
  { texts, length }: TextBatch,
): Record<'ids' | 'lengths' | 'types', Int32Array> {
  const ids = new Int32Array(texts.length * length);
  const lengths = Int32Array.from(texts, (text) => tokens.length(text));
  texts.forEach((text, b) => {
    ids.set(tokens.ids(text), b * length);
  });
  return { ids, lengths, types: new Int32Array(ids.length) };
}
