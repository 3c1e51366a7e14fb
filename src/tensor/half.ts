const scratch = new Float32Array(1);
const bits = new Uint32Array(scratch.buffer);

// Copied with the constructor: `slice` of a Node Buffer is a view.
const halves = (bytes: Uint8Array): Uint16Array =>
  bytes.byteOffset % 2 === 0
    ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1)
    : new Uint16Array(new Uint8Array(bytes).buffer);

/** IEEE 754 binary16, little-endian, to floats; subnormals, infinities and NaN included. */
export function decodeFloat16(bytes: Uint8Array): Float32Array {
  return Float32Array.from(halves(bytes), (h) => {
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
  });
}

/** bfloat16 (the upper half of a binary32), little-endian, to floats. */
export function decodeBfloat16(bytes: Uint8Array): Float32Array {
  const source = halves(bytes);
  const out = new Float32Array(source.length);
  const raw = new Uint32Array(out.buffer);
  for (let i = 0; i < source.length; i++) raw[i] = source[i] << 16;
  return out;
}

/** Floats to binary16, rounded to nearest even; what is too large becomes infinity. */
export function encodeFloat16(values: Float32Array): Uint8Array {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    scratch[0] = values[i];
    const sign = (bits[0] >>> 16) & 0x8000;
    const magnitude = Math.abs(values[i]);
    if (Number.isNaN(magnitude)) out[i] = sign | 0x7e00;
    else if (magnitude >= 65520) out[i] = sign | 0x7c00;
    else if (magnitude < 2 ** -14) out[i] = sign | roundEven(magnitude * 2 ** 24);
    else {
      const exponent = Math.floor(Math.log2(magnitude));
      out[i] = sign | (((exponent + 15) << 10) + roundEven((magnitude / 2 ** exponent - 1) * 1024));
    }
  }
  return new Uint8Array(out.buffer);
}

/** To the nearest whole number, halves to the even one. */
export function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
