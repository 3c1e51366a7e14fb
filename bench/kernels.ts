import { local } from '../src/attention/pattern/window.ts';
import { runReference } from '../src/backend/reference/interpreter.ts';
import { WasmEngine } from '../src/backend/wasm/engine.ts';
import type { Features, Tiles } from '../src/backend/wasm/kernels/kernel.ts';
import { formatWidth, type Width } from '../src/compress/quantize/width.ts';
import { attention, stacked } from '../src/program/ops/attention.ts';
import { linear, padHead } from '../src/program/ops/linear.ts';
import { OPS } from '../src/program/ops/registry.ts';
import type { Program } from '../src/program/program.ts';
import { trace } from '../src/program/trace.ts';
import { encode, isFloat, specOf, type Weight } from '../src/tensor/codec.ts';
import { type Bindings, symbol } from '../src/tensor/dim.ts';

/**
 * How often a Program repeats its op: handing over inputs and outputs is then a small part of a run. Row
 * quantisation is shared by the copies, so that an int8 product is timed almost alone.
 */
export const COPIES = 16;

/** A Program of one product or one attention, `COPIES` times, with everything that a run of it needs. */
export interface KernelCase {
  readonly id: string;
  readonly what: string;
  readonly program: Program;
  /** The same with one copy, for the reference. */
  readonly single: Program;
  readonly bindings: Bindings;
  readonly weights: ReadonlyMap<string, Weight>;
  /** By name, as the Program names its inputs. */
  readonly inputs: Readonly<Record<string, Float32Array | Int32Array>>;
  /** Of one copy. */
  readonly multiplyAdds: number;
  /** The ceiling of the instructions that its inner loop uses. */
  readonly arithmetic: 'float32' | 'int8';
}

/** Deterministic values, roughly Gaussian. */
function random(length: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Float32Array.from({ length }, () => uniform() + uniform() + uniform() + uniform() - 2);
}

/** A product of `rows` rows. With `binaryInput` x is taken as signs, in an interval of its own. */
export function productCase(
  rows: number,
  K: number,
  C: number,
  width: Width,
  binaryInput = false,
): KernelCase {
  const weight = encode(
    specOf({ ...width, shape: [C, K] }),
    random(C * K, 1).map((x) => x / Math.sqrt(K)),
  );
  const weights = new Map([
    ['x.weight', weight],
    ['x.bias', encode('float32', [C], random(C, 2))],
  ]);
  if (binaryInput) weights.set('x.inputBinary', encode('float32', [2], Float32Array.of(0.5, 0)));
  const program = (copies: number): Program =>
    trace(weights, (t) => {
      const x = t.input('x', 'float32', [symbol('B'), symbol('N'), K]);
      const outputs = Array.from({ length: copies }, () =>
        linear(t, x, [t.parameter('x.weight')], [t.parameter('x.bias')]),
      );
      t.output(outputs.at(-1)!);
    });
  const name = `${formatWidth(width)}${binaryInput ? '-by-binary' : ''}`;
  const float = isFloat(width.codec);
  return {
    id: `linear-${name}-${rows}x${K}x${C}`,
    what: `product [${rows}, ${K}] × [${K}, ${C}]${float ? '' : `, ${name}`}`,
    program: program(COPIES),
    single: program(1),
    bindings: { B: 1, N: rows },
    weights,
    inputs: { x: random(rows * K, 3) },
    multiplyAdds: rows * K * C,
    arithmetic: float ? 'float32' : 'int8',
  };
}

function attend(heads: number, headSize: number, n: number, window: number | null): KernelCase {
  const pitch = padHead(headSize);
  const mask = window === null ? null : local(window, window);
  const program = (copies: number): Program =>
    trace(new Map(), (t) => {
      const qkv = t.input('qkv', 'float32', [3 * heads, symbol('B'), symbol('N'), pitch]);
      const lengths = t.input('lengths', 'int32', [symbol('B')]);
      const outputs = Array.from(
        { length: copies },
        () =>
          attention(
            t,
            { ...stacked(qkv, heads), lengths },
            { heads, headSize, scale: 1 / Math.sqrt(headSize), mask },
          )[0],
      );
      t.output(outputs.at(-1)!);
    });
  let pairs = 0;
  for (let q = 0; q < n; q++)
    pairs += window === null ? n : Math.min(n - 1, q + window) - Math.max(0, q - window) + 1;
  const qkv = random(3 * heads * n * pitch, 4);
  // Columns that only pad a head are zero, as the product before leaves them.
  if (pitch !== headSize) for (let i = 0; i < qkv.length; i++) if (i % pitch >= headSize) qkv[i] = 0;
  return {
    id: `attention-${window === null ? 'dense' : `local${window}`}-h${heads}d${headSize}-n${n}`,
    what: `attention, ${heads} heads of ${headSize}, n=${n}, ${window === null ? 'dense' : `window ±${window}`}`,
    program: program(COPIES),
    single: program(1),
    bindings: { B: 1, N: n },
    weights: new Map(),
    inputs: { qkv, lengths: Int32Array.of(n) },
    multiplyAdds: 2 * heads * headSize * pairs,
    arithmetic: 'float32',
  };
}

/** The products of MiniLM's layers, and its attention. */
export function kernelCases(): KernelCase[] {
  const shapes = [
    [128, 384, 1152],
    [128, 384, 384],
    [128, 384, 1536],
    [128, 1536, 384],
    [16, 384, 1536],
  ] as const;
  return [
    ...shapes.map(([rows, K, C]) => productCase(rows, K, C, { codec: 'float32' })),
    ...shapes.map(([rows, K, C]) => productCase(rows, K, C, { codec: 'int8' })),
    attend(12, 32, 128, null),
    attend(12, 32, 1024, null),
    attend(12, 32, 1024, 128),
    attend(12, 64, 512, null),
  ];
}

export interface OpenKernel {
  /** All copies once; gives the last one's output. */
  run(): Promise<Float32Array>;
  dispose(): void;
}

export async function openKernel(
  { program, bindings, weights, inputs }: KernelCase,
  features: Features,
  tiles: Tiles,
): Promise<OpenKernel> {
  const engine = await WasmEngine.create(program, weights, { features, tiles, threads: 1 });
  const loader = engine.loader(weights);
  for (const [name, { bytes }] of weights) loader.accept(name, 0, bytes);
  loader.finish();
  return {
    run: async () => (await engine.run(bindings, inputs))[0],
    dispose: () => engine.dispose(),
  };
}

/** Whether `output` is within the op's error budget of the float64 reference. */
export function withinBudget(
  { single, bindings, weights, inputs }: KernelCase,
  output: Float32Array,
  levels: 128 | 256,
): boolean {
  const [expected] = runReference(single, weights, inputs, bindings, levels);
  const { absolute, relative } = OPS.get(single.nodes.at(-1)!.kind)!.budget;
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  // A code of the row quantisation may fall either way between two codes: one in a hundred covers a few of them.
  const codes = single.nodes.some(({ kind }) => kind === 'quantizeRows') ? 0.01 : 0;
  return expected.every((x, i) => Math.abs(output[i] - x) <= absolute + (relative + codes) * largest);
}
