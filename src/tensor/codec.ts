import { AttenuateError } from './error.ts';
import { decodeBfloat16, decodeFloat16, encodeFloat16 } from './half.ts';

export type Codec = 'float32' | 'float16' | 'bfloat16' | 'int8';
export const CODECS: readonly Codec[] = ['float32', 'float16', 'bfloat16', 'int8'];

/** What a weight is, without its bytes. A row is what the last axis spans: shape `[…rows, columns]`. */
export interface WeightSpec {
  readonly codec: Codec;
  readonly shape: readonly number[];
}

/**
 * A weight: a codec and its bytes. Layout of `bytes`, each section starting where the one before it ends:
 *
 * | codec | sections |
 * |---|---|
 * | float32, float16, bfloat16 | values, little-endian, row-major |
 * | int8 | values `int8[elements]`, row-major, then padding to 4 bytes, then scales `float32[rows]`: value = code · scale(row), codes in [-127, 127] |
 */
export interface Weight extends WeightSpec {
  readonly bytes: Uint8Array;
}

export interface Section {
  readonly name: 'values' | 'scales';
  readonly type: 'F32' | 'F16' | 'BF16' | 'I8';
  readonly shape: readonly number[];
  readonly offset: number;
  readonly byteLength: number;
}

export const elements = (shape: readonly number[]): number => shape.reduce((product, d) => product * d, 1);
export const columnsOf = (shape: readonly number[]): number => shape[shape.length - 1] ?? 1;
export const rowsOf = (shape: readonly number[]): number => elements(shape) / columnsOf(shape);

const FLOAT_TYPE = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;

/** The sections of a weight's bytes, in order. */
export function sections({ codec, shape }: WeightSpec): Section[] {
  const n = elements(shape);
  if (codec !== 'int8')
    return [
      {
        name: 'values',
        type: FLOAT_TYPE[codec],
        shape,
        offset: 0,
        byteLength: n * (codec === 'float32' ? 4 : 2),
      },
    ];
  const rows = rowsOf(shape);
  return [
    { name: 'values', type: 'I8', shape, offset: 0, byteLength: n },
    { name: 'scales', type: 'F32', shape: [rows], offset: (n + 3) & ~3, byteLength: rows * 4 },
  ];
}

/** Bytes of a weight, exact. */
export function byteSize(spec: WeightSpec): number {
  const last = sections(spec).at(-1)!;
  return last.offset + last.byteLength;
}

/** Encodes row-major floats. @throws `WEIGHT_NOT_FINITE` on NaN or infinity; a row of zeros has scale 0. */
export function encode(codec: Codec, shape: readonly number[], values: Float32Array): Weight {
  if (values.length !== elements(shape))
    throw new AttenuateError(
      'WEIGHT_SHAPE',
      `[encode] wrong number of values: expected ${elements(shape)} for [${shape}], got ${values.length}. Pass one value per element.`,
      { shape },
    );
  if (codec === 'float32')
    return { codec, shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
  if (codec === 'float16') return { codec, shape, bytes: encodeFloat16(values) };
  if (codec === 'int8') return encodeInt8(shape, values);
  throw new AttenuateError(
    'CODEC_READ_ONLY',
    `[encode] codec that is only read: expected float32, float16 or int8, got ${codec}. Choose one of those.`,
    { codec },
  );
}

function encodeInt8(shape: readonly number[], values: Float32Array): Weight {
  const bytes = new Uint8Array(byteSize({ codec: 'int8', shape }));
  const codes = new Int8Array(bytes.buffer, 0, values.length);
  const scales = new Float32Array(bytes.buffer, (values.length + 3) & ~3, rowsOf(shape));
  const columns = columnsOf(shape);
  for (let row = 0; row < scales.length; row++) {
    const from = row * columns;
    let largest = 0;
    for (let i = from; i < from + columns; i++) {
      const magnitude = Math.abs(values[i]);
      if (!(magnitude < Infinity))
        throw new AttenuateError(
          'WEIGHT_NOT_FINITE',
          `[quantize] weight that is not finite: expected a number, got ${values[i]} in row ${row}. Repair the model before quantising it.`,
          { row, column: i - from },
        );
      if (magnitude > largest) largest = magnitude;
    }
    // A subnormal scale would overflow its reciprocal: such a row is zero to float32 precision.
    const scale = largest < 1e-35 ? 0 : Math.fround(largest / 127);
    scales[row] = scale;
    if (scale > 0)
      for (let i = from; i < from + columns; i++)
        codes[i] = Math.max(-127, Math.min(127, Math.round(values[i] / scale)));
  }
  return { codec: 'int8', shape, bytes };
}

/** The weight as row-major floats. */
export function decode(weight: Weight): Float32Array {
  const { bytes, shape, codec } = weight;
  const n = elements(shape);
  if (codec === 'float16') return decodeFloat16(bytes);
  if (codec === 'bfloat16') return decodeBfloat16(bytes);
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  if (codec === 'float32') return new Float32Array(aligned.buffer, aligned.byteOffset, n);
  const codes = new Int8Array(aligned.buffer, aligned.byteOffset, n);
  const scales = new Float32Array(aligned.buffer, aligned.byteOffset + ((n + 3) & ~3), rowsOf(shape));
  const columns = columnsOf(shape);
  const out = new Float32Array(n);
  for (let i = 0, row = 0; row < scales.length; row++)
    for (let c = 0; c < columns; c++, i++) out[i] = codes[i] * scales[row];
  return out;
}
