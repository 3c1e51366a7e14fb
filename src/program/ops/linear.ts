import { isFloat } from '../../tensor/codec.ts';
import { type Dim, dim, formatShape } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { expectFloat, type OpDefinition, type ReferenceParameter, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { type Activation, activate } from './activation.ts';
import { quantizeBinary } from './quantize-binary.ts';
import { quantizeRows } from './quantize-rows.ts';

/** Output laid out by head, `[heads, B, N, padded]`: attention then reads each head contiguously. */
export interface HeadLayout {
  /** Rows of the weights that make a head; the weights may hold different numbers of heads. */
  readonly size: number;
  /** `size` rounded up to a multiple of 8; the extra columns are 0. */
  readonly padded: number;
}

export interface LinearAttributes {
  readonly activation: Activation;
  readonly residual: boolean;
  /** Whether x comes as integers, with a scale and an offset for each row: codes of `quantizeRows`, or bits. */
  readonly quantized: boolean;
  /** Whether the integers are the bits of `quantizeBinary`; each weight is binary then. */
  readonly binaryInput: boolean;
  /** Number of weights whose rows are stacked: parameters are the weights, then as many biases. */
  readonly parts: number;
  readonly heads: HeadLayout | null;
}
export type LinearNode = Node<'linear', LinearAttributes>;

export interface LinearOptions {
  activation?: Activation;
  residual?: Value;
  heads?: { size: number };
}

export const padHead = (size: number): number => (size + 7) & ~7;

/**
 * `y = activation(x Wᵀ + b) + residual`, with x `[…, K]` and W `[C, K]`; several weights are stacked by rows.
 * A weight in an integer codec takes x through quantisation and an integer product: x by each row's own range, or by
 * the range `<product>.inputRange` where there is one (`quantizeRows`), or as signs by `<product>.inputBinary`
 * (`quantizeBinary`, binary weights alone). `<product>.inputScale` multiplies x's columns before they are quantised.
 * A product has its weight's name without `.weight`; stacked weights share x, so each part or none has such
 * companions, and the first part's are taken.
 * @throws `SHAPE_MISMATCH`, `CODEC_UNSUPPORTED`, `INPUT_QUANTIZATION`
 */
export function linear(
  t: Tracer,
  x: Value,
  weights: readonly Parameter[],
  biases: readonly Parameter[],
  options: LinearOptions = {},
): Value {
  const columns = x.shape.at(-1)!;
  let rows = 0;
  if (weights.length === 0 || biases.length !== weights.length)
    throw shapeError(
      'linear',
      'weights without a bias each',
      'as many biases as weights, at least one',
      `${weights.length} weights and ${biases.length} biases`,
    );
  weights.forEach((w, i) => {
    expectFloat('linear', biases[i]);
    if (w.shape.length !== 2 || formatShape([columns]) !== formatShape([w.shape[1]]))
      throw shapeError(
        'linear',
        `weight ${w.name} does not fit its input`,
        `[C, ${formatShape([columns]).slice(1, -1)}]`,
        formatShape(w.shape),
      );
    if (biases[i].shape.length !== 1 || biases[i].shape[0] !== w.shape[0])
      throw shapeError(
        'linear',
        `bias ${biases[i].name} does not fit its weight`,
        `[${w.shape[0]}]`,
        formatShape(biases[i].shape),
      );
    if (isFloat(w.codec) !== isFloat(weights[0].codec))
      throw shapeError('linear', 'floats stacked with integers', weights[0].codec, w.codec);
    rows += w.shape[0];
  });
  const quantized = !isFloat(weights[0].codec);
  const lead = x.shape.slice(0, -1);
  let heads: HeadLayout | null = null;
  let shape: readonly Dim[] = [...lead, dim(rows)];
  if (options.heads) {
    const { size } = options.heads;
    for (const w of weights)
      if (w.shape[0] % size !== 0)
        throw shapeError(
          'linear',
          `rows of ${w.name} do not split into heads`,
          `a multiple of ${size}`,
          `${w.shape[0]}`,
        );
    heads = { size, padded: padHead(size) };
    shape = [dim(rows / size), ...lead, dim(heads.padded)];
  }
  if (options.residual && formatShape(options.residual.shape) !== formatShape(shape))
    throw shapeError(
      'linear',
      'residual does not fit the output',
      formatShape(shape),
      formatShape(options.residual.shape),
    );
  const { inputs, binaryInput } = quantized ? integers(t, x, weights) : floats(t, x, weights);
  if (options.residual) inputs.push(options.residual);
  return t.emit('linear', {
    inputs,
    parameters: [...weights, ...biases],
    outputs: [['y', 'float32', shape]],
    attributes: {
      activation: options.activation ?? 'none',
      residual: !!options.residual,
      quantized,
      binaryInput,
      parts: weights.length,
      heads,
    } satisfies LinearAttributes,
    rowWise: true,
  })[0];
}

const refused = (what: string, expected: string, got: string) =>
  new AttenuateError(
    'INPUT_QUANTIZATION',
    `[linear] ${what}: expected ${expected}, got ${got}. Quantise the activations of this product anew.`,
    { expected, got },
  );

const companionNames = (weights: readonly Parameter[], suffix: string): string[] =>
  weights.map(({ name }) => `${name.replace(/\.weight$/, '')}.${suffix}`);

interface ProductInputs {
  readonly inputs: Value[];
  readonly binaryInput: boolean;
}

/** x as it is; weights that were made for a scaled x would give something else. */
function floats(t: Tracer, x: Value, weights: readonly Parameter[]): ProductInputs {
  const scaled = companionNames(weights, 'inputScale').find((name) => t.has(name));
  if (scaled) throw refused('a scaled input of float weights', 'weights in an integer codec', scaled);
  return { inputs: [x], binaryInput: false };
}

/** x as what an integer product reads, as the weights' companions say. */
function integers(t: Tracer, x: Value, weights: readonly Parameter[]): ProductInputs {
  const companion = (suffix: string, shape: readonly number[]): Parameter | undefined => {
    const names = companionNames(weights, suffix);
    const found = names.filter((name) => t.has(name));
    if (found.length === 0) return undefined;
    if (found.length < names.length)
      throw refused(`${suffix} of some parts alone`, names.join(', '), found.join(', '));
    return t.parameter(names[0], shape);
  };
  const [range, binary] = [companion('inputRange', [2]), companion('inputBinary', [2])];
  const scale = companion('inputScale', [weights[0].shape[1]]);
  if (!binary) return { inputs: [...quantizeRows(t, x, range, scale)], binaryInput: false };
  const second = range ?? scale;
  if (second) throw refused('two ways to quantise an input', 'one', `${second.name} and ${binary.name}`);
  const other = weights.find(({ codec }) => codec !== 'binary');
  if (other) throw refused('binary input of other weights', `${other.name} in binary`, other.codec);
  return { inputs: [...quantizeBinary(t, x, binary)], binaryInput: true };
}

/** Σ over a row of codes minus zero points, group by group, each group's sum by `a` times its scale. */
type Groups = readonly {
  readonly from: number;
  readonly to: number;
  readonly scale: number;
  readonly zero: number;
  readonly sum: number;
}[];

function groupsOf({ data, quantization, shape: [, K] }: ReferenceParameter, row: number): Groups {
  const { scales, zeros, groupSize } = quantization!;
  const size = Math.min(groupSize, K);
  return Array.from({ length: K / size }, (_, i) => {
    const from = row * K + i * size;
    const group = Math.floor(from / groupSize);
    const zero = zeros?.[group] ?? 0;
    let sum = -zero * size;
    for (let k = from; k < from + size; k++) sum += data[k];
    return { from, to: from + size, scale: scales[group], zero, sum };
  });
}

/** Four sums, for the processor to add at once. */
function dot(a: Float64Array, fromA: number, b: Float64Array, fromB: number, count: number): number {
  const whole = count - (count % 4);
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  for (let i = 0; i < whole; i += 4) {
    s0 += a[fromA + i] * b[fromB + i];
    s1 += a[fromA + i + 1] * b[fromB + i + 1];
    s2 += a[fromA + i + 2] * b[fromB + i + 2];
    s3 += a[fromA + i + 3] * b[fromB + i + 3];
  }
  for (let i = whole; i < count; i++) s0 += a[fromA + i] * b[fromB + i];
  return s0 + s1 + (s2 + s3);
}

export const linearOp: OpDefinition<LinearNode> = {
  kind: 'linear',
  budget: { absolute: 1e-6, relative: 3e-6 },
  multiplyAdds(node, { inputs }) {
    const rows = inputs[0].slice(0, -1).reduce((a, b) => a * b, 1);
    return node.parameters
      .slice(0, node.attributes.parts)
      .reduce((sum, w) => sum + rows * w.shape[0] * w.shape[1], 0);
  },
  reference({ attributes, parameters: specs }, { inputs, parameters, outputShapes }) {
    const { parts, heads, quantized, binaryInput, activation, residual } = attributes;
    const K = specs[0].shape[1];
    const pitch = inputs[0].shape.at(-1)!;
    const M = inputs[0].data.length / pitch;
    const out = new Float64Array(outputShapes[0].reduce((a, b) => a * b, 1));
    const N = specs.slice(0, parts).reduce((n, w) => n + w.shape[0], 0);
    const groups = parameters
      .slice(0, quantized ? parts : 0)
      .map((w) => Array.from({ length: w.shape[0] }, (_, n) => groupsOf(w, n)));
    const x = new Float64Array(K);
    /** Σ x[k] over k < i. */
    const before = new Float64Array(K + 1);
    for (let m = 0; m < M; m++) {
      for (let k = 0; k < K; k++)
        x[k] = binaryInput
          ? (inputs[0].data[m * pitch + (k >> 3)] >> (k & 7)) & 1
            ? 1
            : -1
          : inputs[0].data[m * pitch + k];
      for (let k = 0; k < K; k++) before[k + 1] = before[k] + x[k];
      let column = 0;
      for (let p = 0; p < parts; p++) {
        const { data: w } = parameters[p];
        for (let n = 0; n < specs[p].shape[0]; n++, column++) {
          let sum = 0;
          if (quantized) {
            const scale = inputs[1].data[2 * m];
            const offset = inputs[1].data[2 * m + 1];
            for (const group of groups[p][n]) {
              const first = group.from - n * K;
              const end = group.to - n * K;
              // Σ x · (w − zero), of whole numbers: exact however it is taken apart.
              const product =
                dot(x, first, w, group.from, end - first) - group.zero * (before[end] - before[first]);
              sum += group.scale * (scale * product - offset * group.sum);
            }
          } else sum = dot(x, 0, w, n * K, K);
          let y = activate(activation, sum + parameters[parts + p].data[n]);
          let at = m * N + column;
          if (heads) at = (Math.floor(column / heads.size) * M + m) * heads.padded + (column % heads.size);
          if (residual) y += inputs.at(-1)!.data[at];
          out[at] = y;
        }
      }
    }
    return [out];
  },
};
