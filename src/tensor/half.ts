const scratch = new Float32Array(1);
const bits = new Uint32Array(scratch.buffer);

// Copied with the constructor: `slice` of a Node Buffer is a view.
const halves = (bytes: Uint8Array): Uint16Array =>
  bytes.byteOffset % 2 === 0
    ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1)
    : new Uint16Array(new Uint8Array(bytes).buffer);

function fromHalf(h: number): number {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return h & 0x8000 ? -magnitude : magnitude;
}

/** IEEE 754 binary16, little-endian, to floats; subnormals, infinities and NaN included. */
export const decodeFloat16 = (bytes: Uint8Array): Float32Array => Float32Array.from(halves(bytes), fromHalf);

/** bfloat16 (the upper half of a binary32), little-endian, to floats. */
export function decodeBfloat16(bytes: Uint8Array): Float32Array {
  const source = halves(bytes);
  const out = new Float32Array(source.length);
  const raw = new Uint32Array(out.buffer);
  for (let i = 0; i < source.length; i++) raw[i] = source[i] << 16;
  return out;
}

function toHalf(x: number): number {
  scratch[0] = x;
  const sign = (bits[0] >>> 16) & 0x8000;
  const magnitude = Math.abs(x);
  if (Number.isNaN(magnitude)) return sign | 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  return sign | (((exponent + 15) << 10) + roundEven((magnitude / 2 ** exponent - 1) * 1024));
}

/** Floats to binary16, rounded to nearest even; what is too large becomes infinity. */
export const encodeFloat16 = (values: Float32Array): Uint8Array =>
  new Uint8Array(Uint16Array.from(values, toHalf).buffer);

/** A number rounded to binary16. */
export const roundFloat16 = (x: number): number => fromHalf(toHalf(x));

/** Floats to bfloat16, rounded to nearest even; what is too large becomes infinity, NaN stays NaN. */
export function encodeBfloat16(values: Float32Array): Uint8Array {
  const source = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = Uint16Array.from(source, (word) => {
    const upper = word >>> 16;
    if ((word & 0x7fffffff) > 0x7f800000) return upper | 0x40;
    return (word + 0x7fff + (upper & 1)) >>> 16;
  });
  return new Uint8Array(out.buffer);
}

/** To the nearest whole number, halves to the even one. */
export function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
