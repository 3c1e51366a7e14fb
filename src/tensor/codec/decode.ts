import { decodeBfloat16, decodeFloat16 } from '../half.ts';
import { sections } from './layout.ts';
import { unpack } from './pack.ts';
import { elements, groupSizeOf, type Weight } from './spec.ts';

/** The integers of a weight, exact in float32: codes row-major, a scale per group and, where affine, a zero point. */
export interface Codes {
  readonly codes: Float32Array;
  readonly scales: Float32Array;
  readonly zeros?: Float32Array;
  /** Elements that share a scale: element i belongs to group ⌊i / groupSize⌋. */
  readonly groupSize: number;
}

/** Codes, scales and zero points of a weight in an integer codec: value = (code − zero) · scale. */
export function codesOf(weight: Weight): Codes {
  const { codes, scales, zeros, groupSize } = parts(weight);
  return {
    codes: Float32Array.from(codes),
    scales,
    ...(zeros && { zeros: Float32Array.from(zeros) }),
    groupSize,
  };
}

/** The numbers of an int32 weight. */
export function intsOf({ bytes }: Weight): Int32Array {
  const { buffer, byteOffset, length } = floats(bytes);
  return new Int32Array(buffer, byteOffset, length);
}

/** The weight as row-major floats; of int32, numbers beyond 2^24 are rounded. */
export function decode(weight: Weight): Float32Array {
  const { bytes, shape, codec } = weight;
  if (codec === 'float16') return decodeFloat16(bytes);
  if (codec === 'bfloat16') return decodeBfloat16(bytes);
  if (codec === 'float32') return floats(bytes);
  if (codec === 'int32') return Float32Array.from(intsOf(weight));
  const { codes, scales, zeros, groupSize } = parts(weight);
  const out = new Float32Array(elements(shape));
  for (let group = 0, i = 0; group < scales.length; group++) {
    const zero = zeros?.[group] ?? 0;
    for (let end = i + groupSize; i < end; i++) out[i] = (codes[i] - zero) * scales[group];
  }
  return out;
}

function parts(weight: Weight) {
  const [values, scales, zeros] = sections(weight);
  const of = ({ offset, byteLength }: typeof values) => weight.bytes.subarray(offset, offset + byteLength);
  return {
    codes: unpack(weight, of(values)),
    scales: scales.type === 'F16' ? decodeFloat16(of(scales)) : floats(of(scales)),
    zeros: zeros && of(zeros),
    groupSize: groupSizeOf(weight),
  };
}

// Copied with the constructor where it must be: `slice` of a Node Buffer is a view.
const floats = (bytes: Uint8Array): Float32Array => {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 2);
};
