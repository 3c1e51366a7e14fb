import { createTokenizer } from '../format/index.ts';
import type { Model } from '../model/config.ts';
import { AttenuateError } from '../tensor/error.ts';
import { seeded, shuffled } from './random.ts';

/** One text as the model reads it. */
export interface Sequence {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

export interface SequenceOptions {
  /** Most texts that are used; of more, a seeded choice in their own order. */
  readonly maxTexts: number;
  /** Tokens at which a text is cut, special ones included; at most the model's own. */
  readonly maxTokens: number;
  readonly seed: number;
}

/** Texts to calibrate on, as tokens. @throws `CALIBRATION_EMPTY` without a text, `NO_TOKENIZER` */
export async function sequencesOf(
  model: Model,
  texts: readonly string[],
  { maxTexts, maxTokens, seed }: SequenceOptions,
): Promise<Sequence[]> {
  if (!model.tokenizer)
    throw new AttenuateError(
      'NO_TOKENIZER',
      '[calibrate] model without a tokenizer: expected one in the file, got none. Use a model that has one.',
    );
  const tokenizer = await createTokenizer(model.tokenizer, Math.min(maxTokens, model.config.maxLength));
  const sequences = chosen(texts, maxTexts, seed)
    .map((text) => tokenizer.encode(text))
    .filter(({ ids }) => ids.length > 0);
  if (sequences.length === 0)
    throw new AttenuateError(
      'CALIBRATION_EMPTY',
      '[calibrate] no text: expected at least one, got none. Pass text like that which the model will see.',
    );
  return sequences;
}

/** At most `count` of the texts, in their own order. */
function chosen(texts: readonly string[], count: number, seed: number): readonly string[] {
  if (texts.length <= count) return texts;
  const order = shuffled([...texts.keys()], seeded(seed)).slice(0, count);
  return order.sort((a, b) => a - b).map((i) => texts[i]);
}

/** The inputs of an encoder's Program for one sequence. */
export function inputsOf({ config }: Model, { ids, types }: Sequence): Record<string, Int32Array> {
  const inputs: Record<string, Int32Array> = {
    ids: Int32Array.from(ids),
    lengths: Int32Array.of(ids.length),
  };
  if (config.tokenTypes > 0) inputs.types = Int32Array.from(types);
  return inputs;
}
