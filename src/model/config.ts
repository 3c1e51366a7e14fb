import type { AttentionSpec } from '../attention/mechanism.ts';
import type { Activation } from '../program/ops/activation.ts';
import type { Pooling } from '../program/ops/pool.ts';
import type { Weight, WeightSpec } from '../tensor/codec.ts';

export type { AttentionSpec };

export interface LayerSpec {
  /** Width of the layer's input and output; they differ in Universal Sentence Encoder's first layer. */
  readonly inputSize: number;
  readonly outputSize: number;
  readonly heads: number;
  readonly headSize: number;
  readonly feedForwardSize: number;
  readonly activation: Exclude<Activation, 'none'>;
  readonly attention: AttentionSpec;
  /** A lower layer whose weights this one uses instead of its own (Lan et al. 2020, section 3.1). */
  readonly sharedWith?: number;
}

export type HeadSpec =
  /** Pooled rows, an optional dense layer (`head.dense`) with tanh, then optional L2 normalisation. */
  | {
      readonly kind: 'embedding';
      readonly pooling: Pooling;
      readonly dense: boolean;
      readonly normalize: boolean;
    }
  /** First row → optional `head.pooler` with `poolerActivation` → `head.classifier` → softmax. */
  | {
      readonly kind: 'classification';
      readonly labels: readonly string[];
      readonly poolerActivation: Activation | null;
    }
  /** Picked rows → `head.transform`, activation, `head.norm` → product with the word embedding + `head.bias`. */
  | { readonly kind: 'maskedToken'; readonly activation: Activation };

/** The numbers of one tensor of an integer-only encoder: value = scale · (code − zeroPoint). */
export interface CodeSpec {
  readonly scale: number;
  /** −128 to 127; 0 for sums, which are of 32 bits. */
  readonly zeroPoint: number;
}

/** What an encoder needs that computes in integers alone, from its embedding to its pooled rows: `model/integer`. */
export interface IntegerSpec {
  /** By the tensor's name. */
  readonly codes: Readonly<Record<string, CodeSpec>>;
  /** Bits that multipliers stand behind the point, by the name of the product, norm or table that they belong to. */
  readonly shifts: Readonly<Record<string, number>>;
}

/** A transformer encoder. Weights are named as in `model/names.ts`, whatever file they came from. */
export interface EncoderConfig {
  readonly architecture: 'bert' | 'distilbert' | 'use-lite';
  readonly vocabularySize: number;
  readonly embeddingSize: number;
  /**
   * Width of the word, position and type tables where they are narrower than `embeddingSize`: `embedding.projection`
   * then widens their sum (Lan et al. 2020, section 3.1).
   */
  readonly tableSize?: number;
  /** Longest sequence, special tokens included. */
  readonly maxLength: number;
  /** Rows of the position table. With `tilePositions`, lengths beyond it wrap round (for speed and memory only). */
  readonly positions: number;
  readonly tilePositions: boolean;
  readonly tokenTypes: number;
  readonly wordScale: number;
  readonly embeddingNorm: boolean;
  /** LayerNorm after each residual sum (BERT) or before each block (Universal Sentence Encoder). */
  readonly norm: 'post' | 'pre';
  readonly epsilon: number;
  readonly layers: readonly LayerSpec[];
  readonly head: HeadSpec;
  /** Absent: floating point. */
  readonly integer?: IntegerSpec;
}

/** One place of a tokenizer's output: a special token's id, or all of the first (`A`) or second text; its token type. */
export type TokenTemplate = readonly [token: number | 'A' | 'B', type: number];

/** How text becomes token ids: enough to rebuild the tokenizer anywhere. */
export type TokenizerSpec =
  /** BERT's, without what its `tokenizer.json` says at length: what an artifact stores. */
  | {
      readonly kind: 'wordPiece';
      /** Every token in the order of the ids, a space between two. */
      readonly vocabulary: string;
      /** Id of what stands for a word that cannot be cut into pieces. */
      readonly unknown: number;
      /** In front of pieces that continue a word. */
      readonly prefix: string;
      /** Words of more code points are unknown. */
      readonly longestWord: number;
      /** Whether control characters go. */
      readonly cleanText: boolean;
      /** Whether each Chinese character is a word. */
      readonly ideographs: boolean;
      readonly lowercase: boolean;
      readonly stripAccents: boolean;
      /** Ids of tokens that are found in a text as they are. */
      readonly added: readonly number[];
      readonly mask: number | null;
      readonly single: readonly TokenTemplate[];
      readonly pair: readonly TokenTemplate[];
    }
  | { readonly kind: 'huggingface'; readonly tokenizer: unknown; readonly config: unknown }
  | {
      readonly kind: 'unigram';
      readonly vocabulary: readonly (readonly [piece: string, score: number])[];
      readonly reserved: number;
    };

/** Weights by name. `read` may be asked in any order and gives a fresh or shared, never to be written, Weight. */
export interface WeightStore {
  readonly specs: ReadonlyMap<string, WeightSpec>;
  read(name: string): Promise<Weight>;
  /** Pieces of every weight in file order, for one-pass loading; without it `read` is used. */
  stream?(signal?: AbortSignal): AsyncIterable<WeightPiece>;
  close?(): Promise<void>;
}

/** Bytes `offset …` of one weight, as laid out in `tensor/codec`. Valid until the next piece is asked for. */
export interface WeightPiece {
  readonly name: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Model {
  readonly config: EncoderConfig;
  readonly tokenizer: TokenizerSpec | null;
  readonly weights: WeightStore;
  /** Recipe steps already applied, and where the model came from; both travel in the artifact. */
  readonly recipe: readonly unknown[];
  readonly provenance: Readonly<Record<string, unknown>>;
}
