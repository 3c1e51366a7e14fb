import type { StepContext } from '../compress/index.ts';
import { calibrationFrom } from './calibration.ts';
import { observeInputs } from './observe.ts';
import type { StatisticsCache } from './statistics-cache.ts';
import { watchValues } from './watch.ts';

export interface TextContextOptions {
  readonly seed?: number;
  /** Keeps statistics of inputs, and where a pass over the text stood. */
  readonly cache?: StatisticsCache;
  readonly signal?: AbortSignal;
  /** What a step is at, and the part of it that is done, 0 to 1. */
  readonly onProgress?: (what: string, fraction: number) => void;
  /** Called with the number of texts that a step looked at. */
  readonly onTexts?: (count: number) => void;
}

/** What recipe steps may use: with text, ways to look at it inside a model. */
export function textContext(
  texts: readonly string[],
  { seed, cache, signal, onProgress, onTexts }: TextContextOptions = {},
): StepContext {
  if (texts.length === 0) return { signal, onProgress };
  const progress = ({ done, total }: { readonly done: number; readonly total: number }) =>
    onProgress?.('calibrate', done / total);
  const options = { seed, signal, onProgress: progress };
  return {
    signal,
    onProgress,
    async calibrate(model) {
      const layers = model.config.layers.length;
      const calibration = await calibrationFrom(model, texts, {
        ...options,
        onProgress: ({ layer, done, total }) => progress({ done: layer + done / total, total: layers }),
      });
      onTexts?.(calibration.sequences);
      return calibration;
    },
    async observe(model, request) {
      const { inputs, sequences } = await observeInputs(model, texts, request, { ...options, cache });
      onTexts?.(sequences);
      return inputs;
    },
    async watch(model, wanted) {
      const { values, sequences } = await watchValues(model, texts, wanted, options);
      onTexts?.(sequences);
      return values;
    },
  };
}
