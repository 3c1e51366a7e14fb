import type {
  AttentionContext,
  Calibration,
  Initialised,
  LayerSample,
  LayerShape,
  Mechanism,
  Projection,
} from '../src/attention/mechanism.ts';
import { parseOptions } from '../src/attention/options.ts';
import { runReference } from '../src/backend/reference/interpreter.ts';
import { padHead } from '../src/program/ops/linear.ts';
import { trace } from '../src/program/trace.ts';
import { encode, type Weight } from '../src/tensor/codec.ts';
import { symbol } from '../src/tensor/dim.ts';
import { Random } from '../src/tensor/random.ts';

const PARTS: readonly Projection[] = ['query', 'key', 'value'];

/** One layer with its projections as Gaussian matrices, and sequences as they pass through it. */
export interface MadeLayer {
  readonly shape: LayerShape;
  /** `query.weight` and the other five. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** A sequence of n tokens: what stands at a position in every text, plus what is the text's own. */
  sample(seed: number, n: number): LayerSample;
}

/** @param own how much of a token is its own, beside 1 of its position */
export function madeLayer(shape: LayerShape, seed: number, own: number): MadeLayer {
  const { inputSize: C, heads, headSize, maxLength } = shape;
  const random = new Random(seed);
  const inner = heads * headSize;
  const weights = new Map<string, Float32Array>();
  for (const part of PARTS) {
    weights.set(`${part}.weight`, random.gaussians(inner * C, 1 / Math.sqrt(C)));
    weights.set(`${part}.bias`, random.gaussians(inner, 0.2));
  }
  const position = random.gaussians(maxLength * C);
  // Some positions are looked at more than others, as first and last tokens are.
  for (let n = 0; n < maxLength; n++) {
    const loudness = n % 5 === 1 ? 2 : 0.5;
    for (let c = 0; c < C; c++) position[n * C + c] *= loudness;
  }
  return {
    shape,
    weights,
    sample(at, n) {
      const noise = new Random(at);
      const x = Float32Array.from({ length: n * C }, (_, i) => position[i] + own * noise.gaussian());
      const part = (name: Projection) => {
        const [w, b] = [weights.get(`${name}.weight`)!, weights.get(`${name}.bias`)!];
        const data = new Float32Array(inner * n);
        for (let r = 0; r < inner; r++)
          for (let i = 0; i < n; i++) {
            let sum = b[r];
            for (let c = 0; c < C; c++) sum += w[r * C + c] * x[i * C + c];
            data[(Math.floor(r / headSize) * n + i) * headSize + (r % headSize)] = sum;
          }
        return { shape: [heads, n, headSize], data };
      };
      return {
        n,
        x: { shape: [n, C], data: x },
        queries: part('query'),
        keys: part('key'),
        values: part('value'),
      };
    },
  };
}

export const calibrationOf = (samples: readonly LayerSample[]): Calibration => ({
  async *layer() {
    yield* samples;
  },
});

export async function initialise(
  mechanism: Mechanism,
  given: Readonly<Record<string, unknown>>,
  layer: MadeLayer,
  samples: readonly LayerSample[] | null,
): Promise<Initialised> {
  const { inputSize, heads, headSize } = layer.shape;
  const context = {
    layer: layer.shape,
    weight: async (name: string) => ({
      shape: name.endsWith('.bias') ? [heads * headSize] : [heads * headSize, inputSize],
      data: layer.weights.get(name)!,
    }),
    calibration: samples && calibrationOf(samples),
  };
  return mechanism.initialise!(context, parseOptions(mechanism.kind, mechanism.options, given) as never);
}

/** What a mechanism makes of some sequences, each `[n, H·D]`: by the reference, in one batch padded to N by `padding`. */
export function attend(
  mechanism: Mechanism,
  given: Readonly<Record<string, unknown>>,
  layer: MadeLayer,
  samples: readonly LayerSample[],
  made: Initialised = new Map(),
  N = Math.max(1, ...samples.map(({ n }) => n)),
  padding = 0,
): Float64Array[] {
  const { shape } = layer;
  const { inputSize: C, heads: H, headSize: D } = shape;
  const [B, pitch] = [samples.length, padHead(D)];
  const weights = new Map<string, Weight>();
  for (const [name, tensor] of made)
    if (tensor) weights.set(name, encode(tensor.codec ?? 'float32', tensor.shape, tensor.data));
  const inputs: Record<string, Float32Array | Int32Array> = {
    lengths: Int32Array.from(samples, ({ n }) => n),
  };
  const options = parseOptions(mechanism.kind, mechanism.options, given);
  const program = trace(weights, (t) => {
    const x = t.input('x', 'float32', [symbol('B'), symbol('N'), C]);
    inputs.x = new Float32Array(B * N * C).fill(padding);
    samples.forEach((sample, b) => {
      (inputs.x as Float32Array).set(sample.x.data, b * N * C);
    });
    const lengths = t.input('lengths', 'int32', [symbol('B')]);
    const context: AttentionContext = {
      t,
      layer: shape,
      x,
      lengths,
      parameter: (name, wanted) => t.parameter(name, wanted),
      project(parts) {
        const data = new Float32Array(parts.length * H * B * N * pitch);
        for (const [p, part] of parts.entries())
          for (let h = 0; h < H; h++)
            samples.forEach((sample, b) => {
              const from = { query: sample.queries, key: sample.keys, value: sample.values }[part].data;
              for (let i = 0; i < N; i++)
                for (let d = 0; d < D; d++)
                  data[(((p * H + h) * B + b) * N + i) * pitch + d] =
                    i < sample.n ? from[(h * sample.n + i) * D + d] : padding;
            });
        const name = `projected ${parts.join()}`;
        inputs[name] = data;
        return t.input(name, 'float32', [parts.length * H, symbol('B'), symbol('N'), pitch]);
      },
    };
    t.output(mechanism.lower(context, options as never));
  });
  const [out] = runReference(program, weights, inputs, { B, N }, 256);
  return samples.map(({ n }, b) => out.slice(b * N * H * D, (b * N + n) * H * D));
}

/** ‖a − b‖ / ‖b‖ over all sequences. */
export function relativeError(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  const squares = (x: readonly Float64Array[]) =>
    x.reduce((sum, y) => sum + y.reduce((s, v) => s + v * v, 0), 0);
  return Math.sqrt(squares(a.map((y, i) => y.map((v, j) => v - b[i][j]))) / squares(b));
}
