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
  /**
   * Whether the artifact's stored inputs are run and compared with its stored outputs when it is first loaded here
   * (default: true). In Node what agreed is remembered; a page compares at each load.
   */
  verify?: boolean;
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
  readonly agreement: AgreementInfo;
}

/** How what this device computes was held against the outputs that are stored in the artifact. */
export interface AgreementInfo {
  /** `no probe`: the source stores none, as an artifact of before, a folder or an open model. */
  readonly state: 'verified' | 'remembered' | 'not verified' | 'no probe';
  /** Of the sample that was furthest off, where it was computed now. */
  readonly cosine?: number;
  /** ‖y − r‖² / ‖r‖², of the same. */
  readonly nmse?: number;
}

export interface StreamOptions {
  /**
   * How far a token's input to a part of a layer may move before that part is computed anew for it: ‖x − x_ref‖ as a
   * share of ‖x_ref‖, where x_ref is what it was last computed from. 0, the default: by any bit, so that results are
   * those of a fresh run to the bit.
   */
  readonly threshold?: number;
  /** Every n-th push computes every row, which ends all drift; 0, the default: none does. */
  readonly refresh?: number;
}

/** What one push had to compute. */
export interface StreamWork {
  /**
   * Rows computed, of those that a fresh run computes: each layer has two row-wise parts (queries, keys and values;
   * what follows the attention) and counts a token once in each.
   */
  readonly rows: number;
  readonly ofRows: number;
  readonly perLayer: readonly {
    /** Rows whose queries, keys and values were computed. */
    readonly projected: number;
    /** Rows whose attention was computed: all where any input to it changed, else none. */
    readonly attended: number;
    /** Rows that went through the rest of the layer. */
    readonly updated: number;
  }[];
  /** Share of a fresh run's multiply-adds in products with weights, padding to a plan's size included; attention not. */
  readonly multiplyAdds: number;
  /** What the stream keeps outside WebAssembly memory. */
  readonly stateBytes: number;
}

export interface StreamResult {
  /** As `embed` gives it; null for a model that classifies. */
  readonly embedding: Float32Array | null;
  readonly classification: Classification | null;
  readonly recomputed: StreamWork;
}

/** One text that changes a little at a time. Tokens are compared by their place. */
export interface TextStream {
  /**
   * Result for the text as it is now. After a failure or an abort the next push computes every row.
   * @throws as `embed` and `run` do; `DISPOSED`
   */
  push(input: TextInput | readonly number[], options?: RunOptions): Promise<StreamResult>;
  /** Forgets the text: the next push computes every row. */
  reset(): Promise<void>;
  dispose(): void;
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
  /**
   * Opens a stream of a text that changes a little at a time: a push computes only what the change reaches.
   * @throws `STREAM_OPTION`; `WRONG_HEAD` for a masked-token model; `CUT_UNSUPPORTED` where layers hand on more than rows
   */
  stream(options?: StreamOptions): Promise<TextStream>;
  plan(lengths: number | readonly number[], batch?: number): Promise<MemoryPlan[]>;
  /** Bytes of WebAssembly memory held now. */
  memoryBytes(): Promise<number>;
  dispose(): void;
}
