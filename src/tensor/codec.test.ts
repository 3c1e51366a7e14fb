import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteSize, CODECS, columnsOf, decode, elements, encode, rowsOf, sections } from './codec.ts';
import { Random } from './random.ts';

const shapes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 });

describe('codec', () => {
  it('lays sections out without gaps but padding, to the exact size', () => {
    fc.assert(
      fc.property(shapes, fc.constantFrom(...CODECS), (shape, codec) => {
        let end = 0;
        for (const s of sections({ codec, shape })) {
          expect(s.offset - end).toBeGreaterThanOrEqual(0);
          expect(s.offset - end).toBeLessThan(4);
          expect(s.offset % (s.type === 'F32' ? 4 : 1)).toBe(0);
          end = s.offset + s.byteLength;
        }
        expect(byteSize({ codec, shape })).toBe(end);
        expect(rowsOf(shape) * columnsOf(shape)).toBe(elements(shape));
      }),
    );
  });

  it('gives float32 back exactly, and float16 within half a unit in the last place', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, seed) => {
        const values = new Random(seed).gaussians(elements(shape));
        expect(decode(encode('float32', shape, values))).toEqual(values);
        const halves = decode(encode('float16', shape, values));
        values.forEach((v, i) => {
          expect(Math.abs(halves[i] - v)).toBeLessThanOrEqual(Math.abs(v) * 2 ** -11 + 2 ** -25);
        });
        expect(decode(encode('float16', shape, halves))).toEqual(halves);
      }),
    );
  });

  it('gives int8 back within half a step of each row, and codes that stay put', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, seed) => {
        const values = new Random(seed).gaussians(elements(shape), 3);
        const weight = encode('int8', shape, values);
        expect(weight.bytes.byteLength).toBe(byteSize(weight));
        const got = decode(weight);
        const columns = columnsOf(shape);
        for (let row = 0; row < rowsOf(shape); row++) {
          const of = (x: Float32Array) => [...x.subarray(row * columns, (row + 1) * columns)];
          const largest = Math.max(...of(values).map(Math.abs));
          of(values).forEach((v, c) => {
            expect(Math.abs(of(got)[c] - v)).toBeLessThanOrEqual((largest / 254) * 1.0001);
          });
        }
        const codes = (bytes: Uint8Array) => bytes.subarray(0, elements(shape));
        expect(codes(encode('int8', shape, got).bytes)).toEqual(codes(weight.bytes));
      }),
    );
  });

  it('int8 by row of a Gaussian matrix errs by 0.7 % in L2', () => {
    const shape = [256, 384];
    const values = new Random(1).gaussians(elements(shape));
    const got = decode(encode('int8', shape, values));
    let [error, norm] = [0, 0];
    values.forEach((v, i) => {
      error += (v - got[i]) ** 2;
      norm += v * v;
    });
    // A step of largest/127 spread evenly: largest ≈ 3.0σ over 384 columns, so 3.0/127/√12 = 0.0068.
    expect(Math.sqrt(error / norm)).toBeGreaterThan(0.0064);
    expect(Math.sqrt(error / norm)).toBeLessThan(0.0074);
  });

  it('stores a row of zeros, or of what float32 cannot divide, as zeros', () => {
    const weight = encode('int8', [3, 2], Float32Array.from([0, 0, 1e-40, -1e-42, 2, -1]));
    const got = decode(weight);
    expect(got.every(Number.isFinite)).toBe(true);
    expect([...got.subarray(0, 4).map(Math.abs)]).toEqual([0, 0, 0, 0]);
    expect(got[4]).toBeCloseTo(2, 6);
  });

  it('reads bytes at any offset, of a Node Buffer too', () => {
    const weight = encode('int8', [2, 3], Float32Array.from([1, 2, 3, -4, 5, 6]));
    const shifted = Buffer.alloc(weight.bytes.length + 1);
    shifted.set(weight.bytes, 1);
    expect(decode({ ...weight, bytes: shifted.subarray(1) })).toEqual(decode(weight));
  });

  it('refuses what it cannot hold', () => {
    expect(() => encode('int8', [1, 2], Float32Array.from([1, NaN]))).toThrow(
      expect.objectContaining({ code: 'WEIGHT_NOT_FINITE', fields: { row: 0, column: 1 } }),
    );
    expect(() => encode('int8', [1, 2], Float32Array.from([-Infinity, 0]))).toThrow(
      expect.objectContaining({ code: 'WEIGHT_NOT_FINITE' }),
    );
    expect(() => encode('float32', [2, 2], new Float32Array(3))).toThrow('expected 4 for [2,2], got 3');
    expect(() => encode('bfloat16', [1], new Float32Array(1))).toThrow(
      expect.objectContaining({ code: 'CODEC_READ_ONLY' }),
    );
  });
});
