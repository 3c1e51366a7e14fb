import { describe, expect, it } from 'vitest';
import { decodeBfloat16, decodeFloat16, encodeFloat16, roundEven } from './half.ts';

const ALL = Uint16Array.from({ length: 65_536 }, (_, i) => i);
const bytesOf = (halves: Uint16Array) => new Uint8Array(halves.buffer);

/** The definition of IEEE 754 binary16, one number at a time. */
function definition(h: number): number {
  const sign = h >> 15 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0
    ? sign * 2 ** -14 * (fraction / 1024)
    : sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

describe('float16', () => {
  it('decodes all 65,536 halves, and encodes each back to its bits', () => {
    const floats = decodeFloat16(bytesOf(ALL));
    const back = new Uint16Array(encodeFloat16(floats).buffer);
    let wrong = 0;
    for (let h = 0; h < 65_536; h++) {
      if (!Object.is(floats[h], definition(h))) wrong++;
      if (Number.isNaN(floats[h]) ? (back[h] & 0x7fff) <= 0x7c00 : back[h] !== h) wrong++;
    }
    expect(wrong).toBe(0);
  });

  it('rounds what lies between two neighbours to the nearest, halves to the even one', () => {
    const floats = decodeFloat16(bytesOf(ALL));
    const between: number[] = [];
    const wanted: number[] = [];
    // Finite positive neighbours h and h + 1: below the middle, the middle, above it.
    for (let h = 0; h < 0x7bff; h++) {
      const middle = (floats[h] + floats[h + 1]) / 2;
      const nudge = (floats[h + 1] - floats[h]) / 64;
      between.push(middle - nudge, middle, middle + nudge);
      wanted.push(h, h + (h & 1), h + 1);
    }
    const got = new Uint16Array(encodeFloat16(Float32Array.from(between)).buffer);
    expect(got.findIndex((g, i) => g !== wanted[i])).toBe(-1);
  });

  it('overflows to infinity from the middle above the largest half', () => {
    const encoded = encodeFloat16(Float32Array.from([65_504, 65_519.99, 65_520, -1e30, 1e-30, -1e-30]));
    expect([...new Uint16Array(encoded.buffer)]).toEqual([0x7bff, 0x7bff, 0x7c00, 0xfc00, 0, 0x8000]);
  });

  it('reads bytes at an odd offset, of a Node Buffer too', () => {
    const bytes = new Uint8Array([9, 0x00, 0x3c, 0x00, 0xc0]);
    expect([...decodeFloat16(bytes.subarray(1))]).toEqual([1, -2]);
    expect([...decodeFloat16(Buffer.from(bytes.buffer).subarray(1))]).toEqual([1, -2]);
  });
});

describe('bfloat16', () => {
  it('is the upper half of a float32, for all 65,536', () => {
    const floats = decodeBfloat16(bytesOf(ALL));
    const bits = new Uint32Array(1);
    const float = new Float32Array(bits.buffer);
    let wrong = 0;
    for (let h = 0; h < 65_536; h++) {
      bits[0] = h << 16;
      if (!Object.is(floats[h], float[0])) wrong++;
    }
    expect(wrong).toBe(0);
  });
});

it('roundEven takes halves to the even neighbour on both sides of zero', () => {
  expect([0.5, 1.5, 2.5, -1.5, -2.5, 2.4, -2.6].map(roundEven)).toEqual([0, 2, 2, -2, -2, 2, -3]);
  expect(roundEven(-0.5)).toBeCloseTo(0);
});
