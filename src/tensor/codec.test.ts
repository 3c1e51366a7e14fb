import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  byteSize,
  CODECS,
  type Codec,
  checkSpec,
  codeFormat,
  codesOf,
  columnsOf,
  decode,
  elements,
  encode,
  encodeCodes,
  encodeInt32,
  formatSpec,
  groupSizeOf,
  intsOf,
  isAffine,
  isFloat,
  rowsOf,
  sections,
  specOf,
  type WeightSpec,
} from './codec.ts';
import { Random } from './random.ts';

const shapes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 });

const INTEGER_CODECS = CODECS.filter((codec) => !isFloat(codec));

/** Any specification there can be, of a small shape. */
const specs = (codecs: readonly Codec[] = CODECS): fc.Arbitrary<WeightSpec> =>
  fc
    .record({
      codec: fc.constantFrom(...codecs),
      shape: shapes,
      groupSize: fc.constantFrom(undefined, 32, 64, 128),
      groups: fc.integer({ min: 1, max: 3 }),
      scheme: fc.constantFrom('symmetric' as const, 'affine' as const, undefined),
      scaleType: fc.constantFrom('float32' as const, 'float16' as const, undefined),
      perTensor: fc.boolean(),
    })
    .map(({ codec, shape, groupSize, groups, scheme, scaleType, perTensor }) => ({
      codec,
      shape:
        groupSize && !isFloat(codec) && codec !== 'int8'
          ? [...shape.slice(0, -1), groups * groupSize]
          : shape,
      ...(!isFloat(codec) && codec !== 'int8' && { groupSize }),
      ...((codec === 'int4' || codec === 'int2') && { scheme }),
      ...(!isFloat(codec) && { scaleType }),
      ...(codec === 'int8' && { perTensor }),
    }));

const gaussians = (spec: WeightSpec, seed: number, deviation = 1) =>
  new Random(seed).gaussians(elements(spec.shape), deviation);

function relativeError(spec: WeightSpec, options?: Parameters<typeof encode>[2]): number {
  const values = gaussians(spec, 1);
  const got = decode(encode(spec, values, options as never));
  let [error, norm] = [0, 0];
  values.forEach((v, i) => {
    error += (v - got[i]) ** 2;
    norm += v * v;
  });
  return Math.sqrt(error / norm);
}

describe('codec', () => {
  it('lays sections out without gaps but padding, to the exact size', () => {
    fc.assert(
      fc.property(specs(), (spec) => {
        let end = 0;
        for (const s of sections(spec)) {
          expect(s.offset - end).toBeGreaterThanOrEqual(0);
          expect(s.offset - end).toBeLessThan(4);
          expect(s.offset % 4).toBe(0);
          expect(s.byteLength).toBe(
            elements(s.shape) * { F32: 4, F16: 2, BF16: 2, I32: 4, I8: 1, U8: 1 }[s.type],
          );
          end = s.offset + s.byteLength;
        }
        expect(byteSize(spec)).toBe(end);
        expect(rowsOf(spec.shape) * columnsOf(spec.shape)).toBe(elements(spec.shape));
      }),
    );
  });

  it('takes the bytes that each codec is chosen for', () => {
    const size = (spec: Omit<WeightSpec, 'shape'>) => byteSize({ shape: [384, 1536], ...spec });
    const n = 384 * 1536;
    expect(size({ codec: 'bfloat16' })).toBe(2 * n);
    expect(size({ codec: 'int8' })).toBe(n + 384 * 4);
    expect(size({ codec: 'int8', perTensor: true })).toBe(n + 4);
    expect(size({ codec: 'int4', groupSize: 32 })).toBe(n / 2 + (n / 32) * 2);
    expect(size({ codec: 'int4', groupSize: 128, scheme: 'affine' })).toBe(n / 2 + (n / 128) * 3);
    expect(size({ codec: 'int2', groupSize: 64, scaleType: 'float32' })).toBe(n / 4 + (n / 64) * 4);
    expect(size({ codec: 'ternary' })).toBeLessThan((4 * n) / 14);
    expect(size({ codec: 'binary' })).toBeLessThan((4 * n) / 24);
    expect(byteSize({ codec: 'int4', shape: [3, 5] })).toBe(9 + 3 + 3 * 2);
    expect(byteSize({ codec: 'binary', shape: [2, 9] })).toBe(4 + 2 * 2);
  });

  it('names equal specifications equally, and others differently', () => {
    fc.assert(
      fc.property(specs(), specs(), (a, b) => {
        expect(formatSpec(specOf(a))).toBe(formatSpec(a));
        const same = JSON.stringify(specOf(a)) === JSON.stringify(specOf(b));
        expect(formatSpec(a) === formatSpec(b)).toBe(same);
      }),
    );
    expect(formatSpec({ codec: 'int4', shape: [2, 64], groupSize: 32, scheme: 'affine' })).toBe(
      'int4 affine [2,64] in groups of 32',
    );
    expect(specOf({ codec: 'int8', shape: [2], scaleType: 'float32', perTensor: false })).toEqual({
      codec: 'int8',
      shape: [2],
    });
  });

  it('gives float32 back exactly, float16 and bfloat16 within half a unit in the last place', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (shape, seed) => {
        const values = new Random(seed).gaussians(elements(shape));
        expect(decode(encode('float32', shape, values))).toEqual(values);
        for (const [codec, digits] of [
          ['float16', 11],
          ['bfloat16', 8],
        ] as const) {
          const rounded = decode(encode(codec, shape, values));
          values.forEach((v, i) => {
            expect(Math.abs(rounded[i] - v)).toBeLessThanOrEqual(Math.abs(v) * 2 ** -digits + 2 ** -25);
          });
          expect(decode(encode(codec, shape, rounded))).toEqual(rounded);
        }
      }),
    );
  });

  it('gives back the nearest code of each group, and codes that stay put', () => {
    fc.assert(
      fc.property(specs(['int8', 'int4', 'int2']), fc.nat(), (spec, seed) => {
        const values = gaussians(spec, seed, 3);
        const weight = encode(spec, values);
        expect(weight.bytes.byteLength).toBe(byteSize(spec));
        const got = decode(weight);
        const { scales } = codesOf(weight);
        const size = groupSizeOf(spec);
        values.forEach((v, i) => {
          // What stands at the end of a range may be half a step of a rounded zero point, or a scale's rounding, off.
          const scale = scales[Math.floor(i / size)];
          const slack = 0.5 * (isAffine(spec) ? 2 : 1) + codeFormat(spec).high * 2 ** -10;
          expect(Math.abs(got[i] - v)).toBeLessThanOrEqual(scale * slack);
        });
        if (!isAffine(spec) && spec.scaleType === 'float32')
          expect(codesOf(encode(spec, got)).codes).toEqual(codesOf(weight).codes);
      }),
    );
  });

  it('packs any codes and gives them back', () => {
    fc.assert(
      fc.property(specs(INTEGER_CODECS), fc.nat(), (spec, seed) => {
        const random = new Random(seed);
        const { low, high, step } = codeFormat(spec);
        const n = elements(spec.shape);
        const groups = n / groupSizeOf(spec);
        const codes = Float32Array.from(
          { length: n },
          () => low + step * random.integer((high - low) / step + 1),
        );
        const scales = Float32Array.from({ length: groups }, () => random.integer(5) / 8);
        const zeros = isAffine(spec)
          ? Float32Array.from({ length: groups }, () => random.integer(high + 1))
          : undefined;
        const weight = encodeCodes(spec, codes, scales, zeros);
        expect(codesOf(weight)).toEqual({
          codes,
          scales,
          ...(zeros && { zeros }),
          groupSize: groupSizeOf(spec),
        });
        const at = (i: number) => Math.floor(i / groupSizeOf(spec));
        expect(decode(weight)).toEqual(
          codes.map((code, i) => (code - (zeros?.[at(i)] ?? 0)) * scales[at(i)]),
        );
      }),
    );
  });

  it.each<[number, Omit<WeightSpec, 'shape'>, { ternary: 'absmean' }?]>([
    [0.0069, { codec: 'int8' }],
    [0.1255, { codec: 'int4' }],
    [0.1166, { codec: 'int4', groupSize: 128 }],
    [0.0966, { codec: 'int4', groupSize: 32 }],
    [0.6028, { codec: 'binary' }],
    // 1 − M²/P with threshold 0.7·√(2/π), M and P the mass and the share above it.
    [0.438, { codec: 'ternary' }],
    // 1 − 2sM + s²P with s = √(2/π) and threshold s/2.
    [0.513, { codec: 'ternary' }, { ternary: 'absmean' }],
  ])('errs by %f in L2 on a Gaussian matrix: %o', (expected, spec, options) => {
    const got = relativeError({ shape: [512, 256], ...spec }, options as never);
    expect(got).toBeGreaterThan(expected * 0.97);
    expect(got).toBeLessThan(expected * 1.03);
  });

  it('errs by a step of the largest weight spread evenly where one scale serves the whole tensor', () => {
    const spec = { codec: 'int8', shape: [512, 256], perTensor: true } as const;
    const largest = gaussians(spec, 1).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    expect(relativeError(spec) / (largest / 127 / Math.sqrt(12))).toBeCloseTo(1, 2);
  });

  it('errs less with smaller groups, and less on one-sided weights with a zero point', () => {
    for (const codec of ['int4', 'int2', 'ternary', 'binary'] as const) {
      const errors = ([undefined, 128, 64, 32] as const).map((groupSize) =>
        relativeError({ codec, shape: [64, 384], groupSize }),
      );
      expect(errors.toSorted((a, b) => b - a)).toEqual(errors);
    }
    const values = gaussians({ codec: 'int4', shape: [8, 64] }, 3).map((v) => Math.abs(v));
    const error = (scheme: 'symmetric' | 'affine') => {
      const got = decode(encode({ codec: 'int4', shape: [8, 64], scheme }, values));
      return values.reduce((sum, v, i) => sum + (v - got[i]) ** 2, 0);
    };
    expect(error('affine')).toBeLessThan(error('symmetric') / 2);
  });

  it('stores a group of zeros, or of what its scale cannot hold, as zeros', () => {
    for (const codec of INTEGER_CODECS)
      for (const scheme of ['symmetric', 'affine'] as const) {
        if (scheme === 'affine' && codec !== 'int4' && codec !== 'int2') continue;
        const spec = { codec, shape: [3, 2], ...(scheme === 'affine' && { scheme }) };
        const got = decode(encode(spec, Float32Array.from([0, 0, 1e-40, -1e-42, 2, -2])));
        expect([...got.subarray(0, 4).map(Math.abs)]).toEqual([0, 0, 0, 0]);
        expect(got[4]).toBeGreaterThan(0.6);
        expect(got[5]).toBeLessThan(-0.6);
        const small = decode(
          encode({ ...spec, scaleType: 'float16' }, Float32Array.from([1e-9, -1e-9, 0, 0, 1, -1])),
        );
        expect([...small.subarray(0, 4).map(Math.abs)]).toEqual([0, 0, 0, 0]);
      }
  });

  it('reads bytes at any offset, of a Node Buffer too', () => {
    for (const codec of CODECS) {
      const weight = encode(codec, [2, 3], Float32Array.from([1, 2, 3, -4, 5, 6]));
      const shifted = Buffer.alloc(weight.bytes.length + 1);
      shifted.set(weight.bytes, 1);
      expect(decode({ ...weight, bytes: shifted.subarray(1) })).toEqual(decode(weight));
    }
  });

  it('refuses weights that it cannot hold', () => {
    for (const codec of INTEGER_CODECS)
      for (const value of [NaN, Infinity, -Infinity])
        expect(() => encode(codec, [2, 2], Float32Array.from([0, 1, 1, value]))).toThrow(
          expect.objectContaining({ code: 'WEIGHT_NOT_FINITE', fields: { row: 1, column: 1 } }),
        );
    expect(() => encode('float32', [2, 2], new Float32Array(3))).toThrow(
      'expected 4 for float32 [2,2], got 3',
    );
    expect(() => encode('int4', [1, 1], Float32Array.of(1e6))).toThrow(
      expect.objectContaining({ code: 'WEIGHT_RANGE' }),
    );
    expect(decode(encode({ codec: 'int4', shape: [1], scaleType: 'float32' }, Float32Array.of(7e6)))[0]).toBe(
      7e6,
    );
  });

  it.each<[string, string, WeightSpec]>([
    ['GROUP_SIZE', 'that divides 96 columns, got 64', { codec: 'int4', shape: [2, 96], groupSize: 64 }],
    ['GROUP_SIZE', 'got 16', { codec: 'int4', shape: [2, 96], groupSize: 16 }],
    ['GROUP_SIZE', 'got 0', { codec: 'int4', shape: [2, 96], groupSize: 0 }],
    ['CODEC_SPEC', 'int8 with groupSize', { codec: 'int8', shape: [2, 96], groupSize: 32 }],
    ['CODEC_SPEC', 'ternary with scheme', { codec: 'ternary', shape: [2, 96], scheme: 'affine' }],
    ['CODEC_SPEC', 'int4 with perTensor', { codec: 'int4', shape: [2, 96], perTensor: true }],
    ['CODEC_SPEC', 'float16 with scaleType', { codec: 'float16', shape: [2, 96], scaleType: 'float32' }],
  ])('refuses a specification: %s, %s', (code, message, spec) => {
    const attempts = [
      () => checkSpec(spec),
      () => encode(spec, new Float32Array(192)),
      () => encodeCodes(spec, new Float32Array(192), new Float32Array(2)),
    ];
    for (const attempt of attempts) {
      expect(attempt).toThrow(expect.objectContaining({ code }));
      expect(attempt).toThrow(message);
    }
  });

  it('refuses codes, scales and zero points that cannot be stored', () => {
    const spec = { codec: 'int4', shape: [1, 2], scheme: 'affine' } as const;
    const attempt = (codes: number[], scales: number[], zeros?: number[], of: WeightSpec = spec) => {
      try {
        return encodeCodes(of, codes, scales, zeros) && 'stored';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(attempt([0, 15], [1], [15])).toBe('stored');
    expect(attempt([0, 16], [1], [0])).toBe('WEIGHT_CODE');
    expect(attempt([0.5, 1], [1], [0])).toBe('WEIGHT_CODE');
    expect(attempt([NaN, 1], [1], [0])).toBe('WEIGHT_CODE');
    expect(attempt([0, 1], [1], [-1])).toBe('WEIGHT_CODE');
    expect(attempt([0, 1], [1])).toBe('WEIGHT_SHAPE');
    expect(attempt([0, 1], [1, 1], [0])).toBe('WEIGHT_SHAPE');
    expect(attempt([0], [1], [0])).toBe('WEIGHT_SHAPE');
    expect(attempt([0, 1], [-1], [0])).toBe('WEIGHT_SCALE');
    expect(attempt([0, 1], [NaN], [0])).toBe('WEIGHT_SCALE');
    expect(attempt([0, 1], [1e5], [0])).toBe('WEIGHT_RANGE');
    expect(attempt([-8, 7], [1], undefined, { codec: 'int4', shape: [1, 2] })).toBe('stored');
    expect(attempt([0, 1], [1], [1], { codec: 'int4', shape: [1, 2] })).toBe('WEIGHT_SHAPE');
    expect(attempt([-128, 1], [1], undefined, { codec: 'int8', shape: [1, 2] })).toBe('WEIGHT_CODE');
    expect(attempt([0, 1], [1], undefined, { codec: 'binary', shape: [1, 2] })).toBe('WEIGHT_CODE');
    expect(attempt([2, 1], [1], undefined, { codec: 'ternary', shape: [1, 2] })).toBe('WEIGHT_CODE');
    expect(attempt([0, 1], [1], undefined, { codec: 'float16', shape: [1, 2] })).toBe('CODEC_SPEC');
  });
});

describe('int32', () => {
  it('holds whole numbers bit by bit, those that look like NaN too', () => {
    const values = Int32Array.of(-1, 0, 1, 2 ** 31 - 1, -(2 ** 31), 0x7f800001, 16_777_217);
    const weight = encodeInt32([7], values);
    expect(byteSize(weight)).toBe(28);
    expect(sections(weight)).toEqual([
      { name: 'values', type: 'I32', shape: [7], offset: 0, byteLength: 28 },
    ]);
    expect(intsOf(weight)).toEqual(values);
    // From an odd place in a buffer, as a file gives it.
    const bytes = new Uint8Array(29);
    bytes.set(weight.bytes, 1);
    expect(intsOf({ ...weight, bytes: bytes.subarray(1) })).toEqual(values);
    expect(decode(weight)[0]).toBe(-1);
  });

  it('is not what real numbers are encoded in', () => {
    expect(() => encode('int32', [1], Float32Array.of(1))).toThrow(/encodeInt32/);
    expect(() => encodeCodes({ codec: 'int32', shape: [1] }, [1], [1])).toThrow(/integer codec/);
    expect(() => checkSpec({ codec: 'int32', shape: [32], groupSize: 32 })).toThrow(/int32 with groupSize/);
    expect(() => encodeInt32([2], Int32Array.of(1))).toThrow(/expected 2/);
  });
});
