import type { MemoryLayout } from '../../program/memory.ts';
import type { Node, Parameter, Value } from '../../program/program.ts';
import type { Features, Kernel } from './kernels/kernel.ts';
import type { WeightMap } from './weights.ts';

/** A kernel by kind and variant, e.g. `gemm:int8:gelu`: what a step asks for. */
export type KernelKey = string;

/** One call of a kernel: its descriptor's fields, how many units of work, how many a thread takes at a time. */
export interface Step {
  readonly key: KernelKey;
  readonly fields: Readonly<Record<string, number>>;
  readonly units: number;
  readonly chunk: number;
  readonly stage: number;
}

/** What lowering an op may ask for. Rows are those of one chunk where a long sequence goes in chunks. */
export interface Lowering {
  /** Address of a value, or of its row `row` where rows take `bytes`. */
  at(value: Value, row?: number, bytes?: number): number;
  shape(value: Value): readonly number[];
  /** Address of a parameter that is stored as it is: float32, or int8 with its scales behind. */
  weight(parameter: Parameter): number;
  /** Address of words that are made once for this plan and stand in front of the activations; equal keys share them. */
  table(key: string, make: () => Int32Array): number;
  /** A step of `units` equal pieces of work; `chunk` of them at a time go to a thread. */
  step(key: KernelKey, fields: Readonly<Record<string, number>>, units: number, chunk?: number): Step;
  /** Address of the bytes that `workspaceBytes` asked for: shared by all threads, for this node alone. */
  readonly workspace: number;
  /** First row of a row-wise op and how many there are. */
  readonly first: number;
  readonly count: number;
  readonly layout: MemoryLayout;
  readonly weights: WeightMap;
  readonly features: Features;
}

/** How one kind of op runs here: its kernels, and a node as calls of them. */
export interface OpLowering<N extends Node = Node> {
  readonly kind: N['kind'];
  /** Generators by the word in front of a key's first colon; each is given what stands behind it. */
  readonly kernels: Readonly<Record<string, (variant: string) => Kernel>>;
  /** Kernels that a node's steps will call, known before any shape is. */
  keys(node: N): readonly KernelKey[];
  steps(node: N, lowering: Lowering): readonly Step[];
  /** Bytes that all threads share while the node runs. */
  workspaceBytes?(node: N, shape: (value: Value) => readonly number[], features: Features): number;
  /** Bytes of scratch that one thread needs. */
  scratchBytes?(node: N, shape: (value: Value) => readonly number[], features: Features): number;
}

/** A kernel as a generator that needs no variant. */
export const only =
  <K>(kernel: K) =>
  () =>
    kernel as unknown as Kernel;
