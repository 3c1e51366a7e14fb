import type { Model } from '../src/model/config.ts';
import { names } from '../src/model/names.ts';
import { codesOf, decode, encode, sections } from '../src/tensor/codec.ts';
import { OnnxGraph } from './onnx.ts';

/**
 * How the peer's graph is written. `float32` and `int8` use standard operators, as an exporter does; the fused
 * kinds use onnxruntime's own, as its optimiser does. `int4` multiplies by MatMulNBits in groups of 32, with
 * activations in int8 or (`int4-float`) as floats; the codes are those of our own int4 codec.
 */
export const GRAPH_KINDS = [
  'float32',
  'float32-fused',
  'int8',
  'int8-fused',
  'int4',
  'int4-fused',
  'int4-float',
] as const;
export type GraphKind = (typeof GRAPH_KINDS)[number];

/** Keys from q − left to q + right. */
export interface Window {
  readonly left: number;
  readonly right: number;
}

interface Linear {
  readonly weight: Float32Array; // [in, out]
  readonly rows: Float32Array; // [out, in]
  readonly bias: Float32Array;
  readonly inputs: number;
  readonly outputs: number;
}

/** Codes and scales per output channel, symmetric: the same rule as our own int8 codec. */
function quantizeColumns({ weight, inputs, outputs }: Linear): { codes: Int8Array; scales: Float32Array } {
  const codes = new Int8Array(weight.length);
  const scales = new Float32Array(outputs);
  for (let i = 0; i < weight.length; i++)
    scales[i % outputs] = Math.max(scales[i % outputs], Math.abs(weight[i]));
  for (let o = 0; o < outputs; o++) scales[o] = scales[o] === 0 ? 1 : scales[o] / 127;
  for (let i = 0; i < inputs * outputs; i++)
    codes[i] = Math.max(-127, Math.min(127, Math.round(weight[i] / scales[i % outputs])));
  return { codes, scales };
}

function joinColumns(parts: readonly Linear[]): Linear {
  const inputs = parts[0].inputs;
  const outputs = parts.reduce((sum, part) => sum + part.outputs, 0);
  const weight = new Float32Array(inputs * outputs);
  const bias = new Float32Array(outputs);
  let at = 0;
  for (const part of parts) {
    for (let i = 0; i < inputs; i++)
      weight.set(part.weight.subarray(i * part.outputs, (i + 1) * part.outputs), i * outputs + at);
    bias.set(part.bias, at);
    at += part.outputs;
  }
  return { weight, rows: Float32Array.from(parts.flatMap((part) => [...part.rows])), bias, inputs, outputs };
}

function windowMask({ left, right }: Window, n: number): Float32Array {
  return Float32Array.from({ length: n * n }, (_, i) => {
    const distance = (i % n) - Math.floor(i / n);
    return distance >= -left && distance <= right ? 0 : -1e9;
  });
}

/**
 * The encoder of a float BERT `Model` as ONNX: `input_ids [1, N]` → `last_hidden_state [1, N, C]`. It is kept to
 * what one text needs, to the peer's advantage: no mask, and the first token type added to the positions once.
 * Positions beyond the table wrap round, as `tilePositions` does. With `window`, a graph of an unfused kind
 * takes exactly `maxLength` tokens and adds the window's n×n mask to its scores: the reference for local attention.
 */
export async function bertGraph(
  model: Model,
  kind: GraphKind,
  maxLength: number,
  window?: Window,
): Promise<Uint8Array> {
  const { config } = model;
  if (config.norm !== 'post' || config.positions === 0)
    throw new Error(`[bench] the peers' graphs are written for BERT, got ${config.architecture}`);
  const g = new OnnxGraph();
  const C = config.embeddingSize;
  const int8 = kind === 'int8' || kind === 'int8-fused';
  const int4 = kind.startsWith('int4');
  const fused = kind.endsWith('-fused');
  const epsilon = { float: config.epsilon };

  const read = async (name: string): Promise<Float32Array> => decode(await model.weights.read(name));
  const vector = async (name: string): Promise<string> => {
    const values = await read(name);
    return g.constant(values, [values.length]);
  };
  const readLinear = async (name: string): Promise<Linear> => {
    const [outputs, inputs] = model.weights.specs.get(`${name}.weight`)!.shape;
    const rows = await read(`${name}.weight`);
    const weight = new Float32Array(rows.length);
    for (let o = 0; o < outputs; o++)
      for (let i = 0; i < inputs; i++) weight[i * outputs + o] = rows[o * inputs + i];
    return { weight, rows, bias: await read(`${name}.bias`), inputs, outputs };
  };

  const weight = (l: Linear): string => g.constant(l.weight, [l.inputs, l.outputs]);
  const bias = (l: Linear): string => g.constant(l.bias, [l.outputs]);
  const quantizedOnce = new Map<string, string[]>();
  const quantize = (x: string): string[] => {
    const known = quantizedOnce.get(x) ?? g.ops('DynamicQuantizeLinear', [x], 3);
    quantizedOnce.set(x, known);
    return known;
  };
  /** x · W alone, in groups of 4-bit codes: a row's bytes stand as the operator wants them. */
  const matMulNBits = (x: string, { rows, inputs: K, outputs: N }: Linear): string => {
    const weight = encode({ codec: 'int4', groupSize: 32, shape: [N, K] }, rows);
    const [values] = sections(weight);
    return g.contrib(
      'MatMulNBits',
      [
        x,
        g.constant(weight.bytes.slice(0, values.byteLength), [N, K / 32, 16]),
        g.constant(codesOf(weight).scales, [(N * K) / 32]),
      ],
      { K, N, bits: 4, block_size: 32, accuracy_level: kind === 'int4-float' ? 1 : 4 },
    );
  };
  const linear = (x: string, l: Linear): string => {
    if (int4) return g.op('Add', [matMulNBits(x, l), bias(l)]);
    if (!int8) return g.op('Add', [g.op('MatMul', [x, weight(l)]), bias(l)]);
    const { codes, scales } = quantizeColumns(l);
    const w = g.constant(codes, [l.inputs, l.outputs]);
    const s = g.constant(scales, [l.outputs]);
    const zero = g.constant(new Int8Array(l.outputs), [l.outputs]);
    if (fused) return g.contrib('DynamicQuantizeMatMul', [x, w, s, zero, bias(l)]);
    const [xCodes, xScale, xZero] = quantize(x);
    const sums = g.op('Cast', [g.op('MatMulInteger', [xCodes, w, xZero, zero])], { to: 1 });
    return g.op('Add', [g.op('Mul', [sums, g.op('Mul', [xScale, s])]), bias(l)]);
  };
  const layerNorm = async (x: string, name: string): Promise<string> =>
    g.op('LayerNormalization', [x, await vector(`${name}.scale`), await vector(`${name}.bias`)], {
      axis: -1,
      epsilon,
    });
  /** LayerNorm(x·W + b + skip) */
  const linearNorm = async (x: string, l: Linear, skip: string, name: string): Promise<string> => {
    if (!fused) return layerNorm(g.op('Add', [linear(x, l), skip]), name);
    const scale = [await vector(`${name}.scale`), await vector(`${name}.bias`)];
    if (int8) return g.contrib('SkipLayerNormalization', [linear(x, l), skip, ...scale], { epsilon });
    const product = int4 ? matMulNBits(x, l) : g.op('MatMul', [x, weight(l)]);
    return g.contrib('SkipLayerNormalization', [product, skip, ...scale, bias(l)], { epsilon });
  };
  const gelu = (x: string, l: Linear): string => {
    if (fused && int8) return g.contrib('Gelu', [linear(x, l)]);
    if (fused)
      return g.contrib('BiasGelu', [int4 ? matMulNBits(x, l) : g.op('MatMul', [x, weight(l)]), bias(l)]);
    const y = linear(x, l);
    const erf = g.op('Erf', [g.op('Div', [y, g.scalar(Math.SQRT2)])]);
    return g.op('Mul', [g.op('Mul', [y, g.op('Add', [erf, g.scalar(1)])]), g.scalar(0.5)]);
  };
  const mask = window && g.constant(windowMask(window, maxLength), [maxLength, maxLength]);
  const attention = (x: string, parts: readonly Linear[], heads: number, headSize: number): string => {
    if (fused && int4)
      return g.contrib(
        'MultiHeadAttention',
        parts.map((part) => linear(x, part)),
        { num_heads: heads },
      );
    if (fused) {
      const all = joinColumns(parts);
      if (!int8) return g.contrib('Attention', [x, weight(all), bias(all)], { num_heads: heads });
      const { codes, scales } = quantizeColumns(all);
      const [xCodes, xScale, xZero] = quantize(x);
      const zero = g.constant(new Int8Array(all.outputs), [all.outputs]);
      const w = g.constant(codes, [all.inputs, all.outputs]);
      const s = g.constant(scales, [all.outputs]);
      return g.contrib('QAttention', [xCodes, w, bias(all), xScale, s, '', xZero, zero], {
        num_heads: heads,
      });
    }
    const split = (y: string, perm: number[]): string =>
      g.op('Transpose', [g.op('Reshape', [y, g.integers(0, 0, heads, headSize)])], { perm });
    const [q, k, v] = parts.map((part, i) => split(linear(x, part), i === 1 ? [0, 2, 3, 1] : [0, 2, 1, 3]));
    const scores = g.op('Div', [g.op('MatMul', [q, k]), g.scalar(Math.sqrt(headSize))]);
    const masked = mask ? g.op('Add', [scores, mask]) : scores;
    const mixed = g.op('MatMul', [g.op('Softmax', [masked], { axis: -1 }), v]);
    return g.op('Reshape', [
      g.op('Transpose', [mixed], { perm: [0, 2, 1, 3] }),
      g.integers(0, 0, heads * headSize),
    ]);
  };

  const ids = g.input('input_ids', 'int64', [1, 'n']);
  const table = await read(names.word);
  let word: string;
  if (int8) {
    const scale = table.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0) / 127;
    const codes = Uint8Array.from(table, (x) => Math.round(x / scale) + 128);
    const rows = g.op('Gather', [g.constant(codes, [config.vocabularySize, C]), ids], { axis: 0 });
    word = g.op('DequantizeLinear', [rows, g.scalar(scale), g.constant(Uint8Array.of(128), [])]);
  } else word = g.op('Gather', [g.constant(table, [config.vocabularySize, C]), ids], { axis: 0 });
  const rows = Math.max(maxLength, config.positions);
  const positions = await read(names.position);
  const type = config.tokenTypes > 0 ? await read(names.tokenType) : new Float32Array(C);
  const tiled = new Float32Array(rows * C);
  for (let i = 0; i < tiled.length; i++) tiled[i] = positions[i % positions.length] + type[i % C];
  const length = g.op('Slice', [g.op('Shape', [ids]), g.integers(1), g.integers(2), g.integers(0)]);
  const position = g.op('Slice', [g.constant(tiled, [rows, C]), g.integers(0), length, g.integers(0)]);
  let x = g.op('Add', [word, position]);
  if (config.embeddingNorm) x = await layerNorm(x, names.embeddingNorm);

  for (const [i, layer] of config.layers.entries()) {
    const at = names.layer(i);
    const parts = [await readLinear(at.query), await readLinear(at.key), await readLinear(at.value)];
    const o = attention(x, parts, layer.heads, layer.headSize);
    const y = await linearNorm(o, await readLinear(at.output), x, at.attentionNorm);
    const up = gelu(y, await readLinear(at.up));
    x = await linearNorm(up, await readLinear(at.down), y, at.feedForwardNorm);
  }
  g.output('last_hidden_state', x, 'float32', [1, 'n', C]);
  return g.bytes();
}
