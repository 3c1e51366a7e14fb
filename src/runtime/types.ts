import type { EncoderConfig } from '../model/config.ts';

export interface LoadOptions {
  /** Threads of the pool; 1 where shared memory is missing. Default: 1 in Node, the processor count in an isolated page. */
  threads?: number;
  /** 'auto' takes the best level that a probe proves right; 'simd128' forces the level that every engine has. */
  level?: 'auto' | 'simd128';
  /** Wider vectors in Node 24 and later through an experimental engine flag, set for the whole process. */
  wide?: boolean;
  /** Lengths beyond the position table wrap round: for speed and memory only, the model never learnt them. */
  tilePositions?: boolean;
  /** Most bytes that a run may need in all; more is an error before anything is allocated. */
  maxMemory?: number;
  signal?: AbortSignal;
  onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
  /**
   * In a browser: the artifact's hash (`card.json` and `inspect` show it). A download is kept under it, and a later load
   * that names the same hash opens no connection.
   */
  cache?: string;
  /** In a page: the address of the worker's file, or false to run on the page's own thread. Default: beside this script. */
  worker?: string | URL | false;
}

export type TextInput = string | readonly [first: string, second: string];

export interface RunOptions {
  signal?: AbortSignal;
}

export interface Classification {
  readonly label: string;
  readonly score: number;
  /** Every label's probability, in the model's order. */
  readonly scores: readonly { readonly label: string; readonly score: number }[];
}

export interface MaskCandidate {
  readonly token: string;
  readonly id: number;
  readonly score: number;
}

/** What a run of B texts of N tokens takes, exact and before anything is allocated. */
export interface MemoryPlan {
  readonly batch: number;
  readonly length: number;
  readonly weightBytes: number;
  /** The plan's own tables and every activation, at its highest point. */
  readonly arenaBytes: number;
  readonly scratchBytes: number;
  readonly peakBytes: number;
}

export interface BackendInfo {
  readonly backend: 'wasm';
  readonly level: 'simd128' | 'relaxed-simd';
  readonly dot: 'u8' | 's8' | 'u7' | 'i16';
  readonly fused: boolean;
  readonly threads: number;
  /** What was asked for and could not be had, in words. */
  readonly fallbacks: readonly string[];
}

export interface TextModel {
  readonly config: EncoderConfig;
  readonly info: BackendInfo;
  /** Recipe and provenance of the artifact. */
  readonly recipe: readonly unknown[];
  readonly provenance: Readonly<Record<string, unknown>>;
  /** Token ids of a text, special tokens included, cut to the model's length. */
  tokenize(text: TextInput): Promise<number[]>;
  embed(texts: readonly TextInput[], options?: RunOptions): Promise<Float32Array[]>;
  classify(texts: readonly TextInput[], options?: RunOptions): Promise<Classification[]>;
  fillMask(text: string, options?: RunOptions & { top?: number }): Promise<MaskCandidate[][]>;
  /** Output rows for token ids, for callers with a tokenizer of their own. All rows of `ids` may differ in length. */
  run(ids: readonly (readonly number[])[], options?: RunOptions): Promise<Float32Array[]>;
  plan(lengths: number | readonly number[], batch?: number): Promise<MemoryPlan[]>;
  /** Bytes of WebAssembly memory held now. */
  memoryBytes(): Promise<number>;
  dispose(): void;
}
