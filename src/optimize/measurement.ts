import type { BackendInfo } from '../runtime/types.ts';
import type { LatencyFigure } from './result.ts';

/** What the child process is asked; plain JSON. */
export interface MeasureJob {
  readonly artifact: string;
  /** Texts to run, the test texts first. */
  readonly texts: readonly string[];
  /** How many of them are test texts: the longest of those sets the peak. */
  readonly testTexts: number;
  /** Indices of `texts` that are timed one at a time, in this order. */
  readonly timed: readonly number[];
  readonly warmup: number;
  /** Embeddings, or the probabilities of the model's own classification head. */
  readonly output: 'embedding' | 'probabilities';
  /** Where the rows go, float32 one after another; null when only the latency is wanted. */
  readonly vectors: string | null;
}

/** What the child process found. */
export interface Measurement {
  readonly plannedPeakBytes: number;
  readonly measuredPeakBytes: number;
  readonly latencyMs: LatencyFigure;
  /** Tokens of each test text, in order. */
  readonly lengths: readonly number[];
  /** Floats of one row of `vectors`. */
  readonly width: number;
  readonly info: BackendInfo;
}

export interface MeasureProgress {
  readonly stage: 'load' | 'time' | 'run';
  readonly done: number;
  readonly total: number;
}

export type ChildMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'progress'; readonly progress: MeasureProgress }
  | { readonly kind: 'done'; readonly measurement: Measurement }
  | { readonly kind: 'error'; readonly code: string; readonly message: string };

export const INSTRUMENTS = {
  size: 'bytes of the artifact file',
  memory:
    'largest sampled growth of heap, ArrayBuffers and WebAssembly memory over a process of its own before load: load, the longest test text, and the timed texts, batch 1',
  latency: 'performance.now() round one text at a time, tokenising included, after a warm-up',
} as const;
