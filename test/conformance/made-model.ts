import { runReference } from '../../src/backend/reference/interpreter.ts';
import { WasmEngine } from '../../src/backend/wasm/engine.ts';
import type { Features } from '../../src/backend/wasm/kernels/kernel.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import type { Model } from '../../src/model/config.ts';
import { traceEncoder } from '../../src/model/encoder.ts';
import type { Program } from '../../src/program/program.ts';
import type { Weight } from '../../src/tensor/codec.ts';
import { Random } from '../../src/tensor/random.ts';

const probed: Features = { ...probeFeatures(), panel: 8 };
const LEVELS: Readonly<Record<string, Features>> = {
  probed,
  simd128: { level: 'simd128', fused: false, dot: 'i16', panel: 8 },
};
export const LEVEL_NAMES = Object.keys(LEVELS);

/** Sequences side by side, filled up to one length with tokens that must not matter. */
export interface Batch {
  readonly inputs: Readonly<Record<'ids' | 'types' | 'lengths', Int32Array>>;
  readonly B: number;
  readonly N: number;
}

/** Sequences of random token ids. */
export function randomSequences(lengths: readonly number[], vocabulary: number, seed: number): number[][] {
  const random = new Random(seed);
  return lengths.map((n) => Array.from({ length: n }, () => Math.floor(random.uniform() * vocabulary)));
}

/** @param padding the id that stands behind each sequence's end */
export function batchOf(sequences: readonly (readonly number[])[], N: number, padding = 3): Batch {
  const B = sequences.length;
  const ids = new Int32Array(B * N).fill(padding);
  sequences.forEach((sequence, b) => {
    ids.set(sequence, b * N);
  });
  const lengths = Int32Array.from(sequences, ({ length }) => length);
  return { inputs: { ids, types: new Int32Array(B * N), lengths }, B, N };
}

/** A traced model that runs on the reference and on both levels of the engine. */
export class MadeModel {
  private readonly program: Program;
  private readonly weights: ReadonlyMap<string, Weight>;
  private readonly engines = new Map<string, WasmEngine>();

  private constructor(program: Program, weights: ReadonlyMap<string, Weight>) {
    this.program = program;
    this.weights = weights;
  }

  static async of({ config, weights }: Model): Promise<MadeModel> {
    const read = new Map<string, Weight>();
    for (const name of weights.specs.keys()) read.set(name, await weights.read(name));
    return new MadeModel(await traceEncoder(config, weights.specs), read);
  }

  /** One row for each sequence, in float64, with as many codes as the engine has at a level. */
  reference({ inputs, B, N }: Batch, level = 'probed'): Float64Array[] {
    const levels = LEVELS[level].dot === 'u7' ? 128 : 256;
    return rowsOf(runReference(this.program, this.weights, inputs, { B, N, P: 1 }, levels)[0], B);
  }

  async wasm({ inputs, B, N }: Batch, level = 'probed'): Promise<Float32Array[]> {
    const engine = this.engines.get(level) ?? (await this.open(level));
    this.engines.set(level, engine);
    const [y] = await engine.run({ B, N, P: 1 }, inputs);
    return rowsOf(y, B);
  }

  dispose(): void {
    for (const engine of this.engines.values()) engine.dispose();
  }

  private async open(level: string): Promise<WasmEngine> {
    const options = { features: LEVELS[level], tiles: { float32: 4, int8: 4 }, threads: 1 };
    const engine = await WasmEngine.create(this.program, this.weights, options);
    const loader = engine.loader(this.weights);
    for (const [name, { bytes }] of this.weights) loader.accept(name, 0, bytes);
    loader.finish();
    return engine;
  }
}

function rowsOf<T extends Float32Array | Float64Array>(y: T, B: number): T[] {
  const width = y.length / B;
  return Array.from({ length: B }, (_, b) => y.slice(b * width, (b + 1) * width) as T);
}

/** Largest difference, as a share of the largest value of `want`; NaN where either is not finite. */
export function apart(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let most = 0;
  let scale = 0;
  for (let i = 0; i < want.length; i++) {
    const difference = Math.abs(got[i] - want[i]);
    if (!Number.isFinite(difference)) return NaN;
    most = Math.max(most, difference);
    scale = Math.max(scale, Math.abs(want[i]));
  }
  return scale > 0 ? most / scale : most;
}
