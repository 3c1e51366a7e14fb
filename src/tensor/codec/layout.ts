import {
  columnsOf,
  elements,
  groupSizeOf,
  isAffine,
  isPlain,
  rowsOf,
  scaleTypeOf,
  type WeightSpec,
} from './spec.ts';

export interface Section {
  readonly name: 'values' | 'scales' | 'zeros';
  readonly type: 'F32' | 'F16' | 'BF16' | 'I32' | 'I8' | 'U8';
  readonly shape: readonly number[];
  readonly offset: number;
  readonly byteLength: number;
}

/** How integer codes are stored: `(code − low) / step` in `bits` bits (int8: the code itself, in two's complement). */
export interface CodeFormat {
  readonly bits: 1 | 2 | 4 | 8;
  /** Smallest and largest code that may be stored. */
  readonly low: number;
  readonly high: number;
  readonly step: 1 | 2;
}

export function codeFormat(spec: WeightSpec): CodeFormat {
  const { codec } = spec;
  if (codec === 'int8') return INT8;
  if (codec === 'ternary') return TERNARY;
  if (codec === 'binary') return BINARY;
  if (codec === 'int4') return isAffine(spec) ? INT4_AFFINE : INT4;
  return isAffine(spec) ? INT2_AFFINE : INT2;
}

// Made once: codes ask for their format one by one.
const INT8: CodeFormat = { bits: 8, low: -127, high: 127, step: 1 };
const INT4: CodeFormat = { bits: 4, low: -8, high: 7, step: 1 };
const INT4_AFFINE: CodeFormat = { bits: 4, low: 0, high: 15, step: 1 };
const INT2: CodeFormat = { bits: 2, low: -2, high: 1, step: 1 };
const INT2_AFFINE: CodeFormat = { bits: 2, low: 0, high: 3, step: 1 };
const TERNARY: CodeFormat = { bits: 2, low: -1, high: 1, step: 1 };
const BINARY: CodeFormat = { bits: 1, low: -1, high: 1, step: 2 };

/** Bytes of one row of codes: rows start at whole bytes. */
export const rowBytesOf = (spec: WeightSpec): number =>
  Math.ceil((columnsOf(spec.shape) * codeFormat(spec).bits) / 8);

const PLAIN_TYPE = { float32: 'F32', float16: 'F16', bfloat16: 'BF16', int32: 'I32' } as const;

/**
 * The sections of a weight's bytes, in order. `values` are row-major; scales and zero points start at a multiple of 4.
 *
 * | codec | values | value |
 * |---|---|---|
 * | float32, float16, bfloat16, int32 | little-endian | itself |
 * | int8 | `int8`, −127 … 127 | code · scale |
 * | int4 | 4 bits, code + 8; affine: 0 … 15 | code · scale; affine: (code − zero) · scale |
 * | int2 | 2 bits, code + 2; affine: 0 … 3 | as int4 |
 * | ternary | 2 bits, code + 1: 3 is not used | −scale, 0, scale |
 * | binary | 1 bit: 0 for −1, 1 for +1 | ±scale |
 *
 * Of a byte the lowest bits come first; a row's last byte is filled with zero bits. `scales` are `[rows]`, with a
 * group size `[rows, groups]`, per tensor `[1]`; `zeros` are one byte for each scale.
 * Sizes are exact for a specification that `checkSpec` accepts.
 */
export function sections(spec: WeightSpec): Section[] {
  const { codec, shape, groupSize } = spec;
  const n = elements(shape);
  if (isPlain(codec)) {
    const byteLength = n * (codec.includes('32') ? 4 : 2);
    return [{ name: 'values', type: PLAIN_TYPE[codec], shape, offset: 0, byteLength }];
  }
  const rows = rowsOf(shape);
  const rowBytes = rowBytesOf(spec);
  const values = codec === 'int8' ? shape : [...shape.slice(0, -1), rowBytes];
  const count = n / groupSizeOf(spec);
  const scales = groupSize === undefined ? [count] : [rows, count / rows];
  const half = scaleTypeOf(spec) === 'float16';
  const at = (rows * rowBytes + 3) & ~3;
  const scaleBytes = count * (half ? 2 : 4);
  const list: Section[] = [
    {
      name: 'values',
      type: codec === 'int8' ? 'I8' : 'U8',
      shape: values,
      offset: 0,
      byteLength: rows * rowBytes,
    },
    { name: 'scales', type: half ? 'F16' : 'F32', shape: scales, offset: at, byteLength: scaleBytes },
  ];
  if (isAffine(spec))
    list.push({
      name: 'zeros',
      type: 'U8',
      shape: scales,
      offset: (at + scaleBytes + 3) & ~3,
      byteLength: count,
    });
  return list;
}

/** Bytes of a weight, exact. */
export function byteSize(spec: WeightSpec): number {
  const last = sections(spec).at(-1)!;
  return last.offset + last.byteLength;
}
