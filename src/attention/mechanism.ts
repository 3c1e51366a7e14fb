import type { Heads } from '../program/ops/attention.ts';
import type { Parameter, Value } from '../program/program.ts';
import type { Tracer } from '../program/trace.ts';
import type { OptionSpecs, OptionsOf } from './options.ts';

/** What a layer's attention is, as JSON: the kind of mechanism and its options. */
export interface AttentionSpec {
  readonly kind: string;
  readonly [option: string]: unknown;
}

/** The sizes that a mechanism has to fit. */
export interface LayerShape {
  readonly index: number;
  /** Columns of the layer's input. */
  readonly inputSize: number;
  readonly heads: number;
  /** Columns of one head. */
  readonly headSize: number;
  /** Longest sequence of the model. */
  readonly maxLength: number;
}

export type Projection = 'query' | 'key' | 'value';

/** What a mechanism's forward function is written against. */
export interface AttentionContext {
  readonly t: Tracer;
  readonly layer: LayerShape;
  /** Input of the layer, `[B, N, C]`. */
  readonly x: Value;
  /** Tokens of each sequence, `[B]`. */
  readonly lengths: Value;
  /**
   * Projects x by the layer's own matrices, stacked in one product: by head, `[parts · H, B, N, D′]` with D′ = D
   * padded to 8 by zeros. The i-th of `parts` starts at head i · H. With `keyHeads`, matrices of keys and of values
   * have that many heads in place of H, and each part starts where the one before it ends.
   */
  project(parts: readonly Projection[], keyHeads?: number): Value;
  /** A weight of the mechanism's own, stored as `layers.<i>.attention.<name>`. */
  parameter(name: string, shape?: readonly number[]): Parameter;
}

/** A dense tensor on its way into or out of a model. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** One sequence as it passed through a layer: input `[n, C]`; queries, keys and values `[H, n, D]`. */
export interface LayerSample {
  readonly n: number;
  readonly x: Tensor;
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** What the user's own text looks like inside the model. */
export interface Calibration {
  /** Sequences in a fixed order; may be asked for more than once. */
  layer(index: number): AsyncIterable<LayerSample>;
}

export interface InitialiseContext {
  readonly layer: LayerShape;
  /** A weight of the dense layer, e.g. `query.weight` `[H·D, C]`. */
  weight(name: string): Promise<Tensor>;
  /** Given to mechanisms that need it, and to those that can use it where the caller has some. */
  readonly calibration: Calibration | null;
}

/** A weight that a mechanism makes, stored as float32 unless it says otherwise. */
export interface MadeTensor extends Tensor {
  readonly codec?: 'float32' | 'float16' | 'int8';
}

/** Weights by name below `layers.<i>.attention.`; null takes one out of the model. */
export type Initialised = ReadonlyMap<string, MadeTensor | null>;

export interface Needs {
  /** What accuracy asks for after the change. */
  readonly training: 'none' | 'recommended' | 'required';
  /** Whether it is made from the activations of the user's text. */
  readonly calibration: boolean;
  /** Whether it cannot see past the model's own longest sequence. */
  readonly boundedLength: boolean;
}

export interface Paper {
  readonly authors: string;
  readonly title: string;
  readonly year: number;
  readonly url: string;
}

/** A way for tokens to look at each other. One file in `mechanisms/` holds one, as its default export. */
export interface Mechanism<S extends OptionSpecs = OptionSpecs> {
  /** Its name in recipes and configurations, and that of its file. */
  readonly kind: string;
  /** One line for tables and help. */
  readonly summary: string;
  readonly family: 'softmax over pairs' | 'linear' | 'low rank' | 'stored' | 'biological';
  readonly paper: Paper;
  readonly options: S;
  readonly needs: Needs;
  /** Time and memory as the length n grows, e.g. `n·(left + right)`. */
  readonly growth: { readonly time: string; readonly memory: string };
  /** Whether it gives what dense attention over the same pairs gives, up to rounding. */
  readonly exact: boolean;
  /** Why it cannot serve a layer with these options, and what can; null when it can. */
  refuse?(layer: LayerShape, options: OptionsOf<NoInfer<S>>): string | null;
  /** Loads what these options need beyond the mechanism's own file; comes before `lower`. */
  prepare?(options: OptionsOf<NoInfer<S>>): Promise<void>;
  /** Traces the attention of one layer; gives `[B, N, H·D]`. */
  lower(context: AttentionContext, options: OptionsOf<S>): Value;
  /** Makes the mechanism's weights from the dense layer's; absent when it has none of its own. */
  initialise?(context: InitialiseContext, options: OptionsOf<NoInfer<S>>): Promise<Initialised>;
  /** Options that the conformance suite runs, beside the defaults' own bounds. */
  readonly examples: readonly Partial<OptionsOf<S>>[];
  /** Options that the benchmark times, by the suffix of the row's name; the first is the mechanism's own row. */
  readonly bench: Readonly<Record<string, Partial<OptionsOf<S>>>>;
}

/** Keeps a mechanism's option types while it is written. */
export const mechanism = <const S extends OptionSpecs>(definition: Mechanism<S>): Mechanism =>
  definition as unknown as Mechanism;

/** Rows of one projection that `project` stacked. */
export const headsAt = (value: Value, from: number): Heads => ({ value, from });

export const scaleOf = ({ headSize }: LayerShape): number => 1 / Math.sqrt(headSize);
