import { type Distribution, DistributionObserver, type Watch } from '../compress/index.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { cutAt, openProgram } from '../runtime/open-program.ts';
import type { ObserveProgress } from './observe.ts';
import { inputsOf, type SequenceOptions, sequencesOf } from './sequences.ts';

export interface WatchedText {
  readonly values: ReadonlyMap<string, Distribution>;
  /** Texts that were run. */
  readonly sequences: number;
}

export interface WatchOptions extends Partial<SequenceOptions> {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ObserveProgress) => void;
}

/**
 * How some values of a model's Program are distributed when some texts run through it: one text at a time, memory that
 * does not grow with the text. Defaults: 512 texts of at most 512 tokens, chosen by seed 1.
 * @throws `CALIBRATION_EMPTY` without a text, `CALIBRATION_NOT_FINITE`, `NO_TOKENIZER`; the signal's reason
 */
export async function watchValues(
  model: Model,
  texts: readonly string[],
  watch: Watch,
  { maxTexts = 512, maxTokens = 512, seed = 1, signal, onProgress }: WatchOptions = {},
): Promise<WatchedText> {
  const sequences = await sequencesOf(model, texts, { maxTexts, maxTokens, seed });
  const program = await traceEncoder(model.config, model.weights.specs);
  const watched = watch(program);
  const observers = watched.map(() => new DistributionObserver());
  const cut = cutAt(
    program,
    watched.map(({ value }) => value),
  );
  const engine = await openProgram(model, cut);
  try {
    for (const [done, sequence] of sequences.entries()) {
      const n = sequence.ids.length;
      const outputs = await engine.run({ B: 1, N: n, P: 1 }, inputsOf(model, sequence), signal);
      watched.forEach(({ value, part: { index, of } = { index: 0, of: 1 } }, i) => {
        const whole = outputs[cut.outputs.indexOf(value)];
        const size = whole.length / of;
        observers[i].add(whole.subarray(index * size, (index + 1) * size));
      });
      onProgress?.({ done: done + 1, total: sequences.length });
    }
  } finally {
    engine.dispose();
  }
  return {
    values: new Map(watched.map(({ name }, i) => [name, observers[i].read()])),
    sequences: sequences.length,
  };
}
