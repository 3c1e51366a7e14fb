import type { OpDefinition } from '../../src/program/op.ts';
import type { Program, Value } from '../../src/program/program.ts';
import { type Tracer, trace } from '../../src/program/trace.ts';
import {
  type Codec,
  elements,
  encode,
  encodeCodes,
  encodeInt32,
  rowsOf,
  type Weight,
  type WeightSpec,
} from '../../src/tensor/codec.ts';
import type { Bindings, DimLike } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';

export interface BuiltCase {
  readonly program: Program;
  readonly weights: Map<string, Weight>;
  readonly inputs: Record<string, Float32Array | Int32Array | Int8Array>;
  readonly bindings: Bindings;
}

/** One program around one op, with its weights and inputs. */
export interface ConformanceCase {
  /** The op whose budget the outputs are held to. */
  readonly op: string;
  readonly name: string;
  /** Whether every output is finite. */
  readonly finite: boolean;
  /** Whether the outputs are codes, whose zero point a backend may have moved. */
  readonly codes: boolean;
  /** Where this case is held to less than its op. */
  readonly budget?: OpDefinition['budget'];
  build(random: Random): BuiltCase;
}

/** Builds a case from a seed of its own, so that it has the same data wherever and in whatever order it runs. */
export function buildCase(c: ConformanceCase): BuiltCase {
  let seed = 17;
  for (const letter of `${c.op}/${c.name}`) seed = (Math.imul(seed, 31) + letter.codePointAt(0)!) >>> 0;
  return c.build(new Random(seed));
}

/** How a weight is stored, whatever its shape. */
export type Stored = Codec | Omit<WeightSpec, 'shape'>;

/** Every way to store a weight in an integer codec whose rows groups of 32 divide, by a name for it. */
export const INTEGER_STORAGE: readonly (readonly [name: string, stored: Omit<WeightSpec, 'shape'>])[] = [
  ['int8', { codec: 'int8' }],
  ['int8 with one scale', { codec: 'int8', perTensor: true }],
  ['int8 with float16 scales', { codec: 'int8', scaleType: 'float16' }],
  ...(['int4', 'int2'] as const).flatMap((codec) =>
    ([undefined, 'affine'] as const).flatMap((scheme) =>
      grouped(`${codec}${scheme ? ' affine' : ''}`, { codec, ...(scheme && { scheme }) }),
    ),
  ),
  ...(['ternary', 'binary'] as const).flatMap((codec) => grouped(codec, { codec })),
];

function grouped(name: string, stored: Omit<WeightSpec, 'shape'>): [string, Omit<WeightSpec, 'shape'>][] {
  return [
    [name, stored],
    [`${name} with float32 scales`, { ...stored, scaleType: 'float32' }],
    ...[32, 64, 128].map((groupSize): [string, Omit<WeightSpec, 'shape'>] => [
      `${name} in groups of ${groupSize}`,
      { ...stored, groupSize },
    ]),
  ];
}

/** What stands in a float32 input. */
export type Fill =
  | 'gaussian'
  /** Gaussian times 1e4. */
  | 'large'
  /** About −1e4, all of one sign. */
  | 'large negative'
  /** Below the smallest normal float32. */
  | 'denormal'
  | 'constant'
  | 'zero'
  /** Every third row is all zeros. */
  | 'some zero'
  | 'with NaN';

export function filled(random: Random, count: number, fill: Fill, columns = 8): Float32Array {
  const x = random.gaussians(count);
  if (fill === 'gaussian') return x;
  if (fill === 'large') return x.map((v) => v * 1e4);
  if (fill === 'large negative') return x.map((v) => -1e4 - Math.abs(v));
  if (fill === 'denormal') return x.map((v) => v * 1e-40);
  if (fill === 'constant') return x.fill(0.75);
  if (fill === 'zero') return x.fill(0);
  if (fill === 'some zero') return x.map((v, i) => (Math.floor(i / columns) % 3 === 0 ? 0 : v));
  return x.map((v, i) => (i % 5 === 2 ? NaN : v));
}

const dtypeOf = (data: Float32Array | Int32Array | Int8Array) =>
  data instanceof Int32Array ? 'int32' : data instanceof Int8Array ? 'int8' : 'float32';

/** What a case's `build` writes its program against: a tracer whose inputs and weights bring their data along. */
export class CaseBuilder {
  readonly random: Random;
  private readonly bindings: Bindings;
  private readonly weights = new Map<string, Weight>();
  private readonly inputs: Record<string, Float32Array | Int32Array | Int8Array> = {};

  constructor(random: Random, bindings: Bindings) {
    this.random = random;
    this.bindings = bindings;
  }

  /** Adds a weight of Gaussian values, or of those given. */
  weight(name: string, stored: Stored, shape: readonly number[], values?: Float32Array): this {
    const floats = values ?? this.random.gaussians(elements(shape), 1 / Math.sqrt(shape.at(-1)!));
    return this.encoded(
      name,
      encode({ ...(typeof stored === 'string' ? { codec: stored } : stored), shape }, floats),
    );
  }

  encoded(name: string, weight: Weight): this {
    this.weights.set(name, weight);
    return this;
  }

  /** Adds an int8 weight of these codes. */
  codes(name: string, shape: readonly number[], codes: Int8Array): this {
    const scales = new Float32Array(rowsOf(shape)).fill(1);
    this.weights.set(name, encodeCodes({ codec: 'int8', shape }, codes, scales));
    return this;
  }

  ints(name: string, values: Int32Array): this {
    this.weights.set(name, encodeInt32([values.length], values));
    return this;
  }

  data(name: string, values: Float32Array | Int32Array | Int8Array): this {
    this.inputs[name] = values;
    return this;
  }

  /** Traces the forward function; `input` declares an input whose data `data` gave. */
  finish(
    forward: (t: Tracer, input: (name: string, shape: readonly DimLike[]) => Value) => Value[],
  ): BuiltCase {
    const program = trace(this.weights, (t) => {
      const input = (name: string, shape: readonly DimLike[]) =>
        t.input(name, dtypeOf(this.inputs[name]), shape);
      for (const v of t.stage('case', () => forward(t, input))) t.output(v);
    });
    return { program, weights: this.weights, inputs: this.inputs, bindings: this.bindings };
  }
}
