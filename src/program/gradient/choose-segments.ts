import { AttenuateError } from '../../tensor/error.ts';
import type { Program } from '../program.ts';
import { differentiate } from './differentiate.ts';
import type { DifferentiateOptions, TrainingProgram } from './training-program.ts';

export interface SegmentChoice {
  readonly training: TrainingProgram;
  /** Of activations, in a step. */
  readonly peakBytes: number;
  /** Stages of the forward pass that run twice, as a share of all. */
  readonly recomputed: number;
}

/**
 * The training Program that computes least again within a budget of bytes for activations: segments of equal numbers
 * of stages up to the last ones, which are kept; √L segments hold the least (Chen et al. 2016, section 4.1).
 * @param peakOf exact bytes of a candidate on the backend that will run it
 * @throws `MEMORY_BUDGET` naming the least that would do
 */
export function chooseSegments(
  whole: Program,
  options: DifferentiateOptions,
  peakOf: (training: TrainingProgram) => number,
  budgetBytes: number,
): SegmentChoice {
  const count = whole.stages.length;
  const tried = new Map<string, SegmentChoice>();
  const attempt = (length: number, kept: number): SegmentChoice => {
    const segments = boundaries(count, length, kept);
    const key = segments.join();
    let choice = tried.get(key);
    if (!choice) {
      const training = differentiate(whole, { ...options, segments });
      const recomputed = segments.length ? (segments.at(-1)! - segments[0]) / count : 0;
      choice = { training, peakBytes: peakOf(training), recomputed };
      tried.set(key, choice);
    }
    return choice;
  };
  const all = attempt(count, count);
  if (all.peakBytes <= budgetBytes) return all;
  for (let length = 1; length < count; length++) {
    // The more stages are kept the more bytes they take: halve the range in which the budget lies.
    let [low, high] = [1, count - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (attempt(length, middle).peakBytes <= budgetBytes) low = middle;
      else high = middle - 1;
    }
    attempt(length, low);
  }
  const choices = [...tried.values()].sort(
    (a, b) => a.recomputed - b.recomputed || a.peakBytes - b.peakBytes,
  );
  const fits = choices.find(({ peakBytes }) => peakBytes <= budgetBytes);
  if (fits) return fits;
  const least = Math.min(...choices.map(({ peakBytes }) => peakBytes));
  throw new AttenuateError(
    'MEMORY_BUDGET',
    `[gradient] activations do not fit: expected at most ${budgetBytes} bytes, got ${least} with every segment computed again. Raise the budget, or train on fewer or shorter texts at a time.`,
    { budgetBytes, least, all: all.peakBytes },
  );
}

/** Segments of `length` stages from the second stage on, up to the last `kept`. */
function boundaries(count: number, length: number, kept: number): number[] {
  const last = count - kept;
  if (last <= 1) return [];
  const out: number[] = [];
  for (let at = last; at > 1; at -= length) out.unshift(at);
  return [1, ...out];
}
