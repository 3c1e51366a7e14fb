import { AttenuateError } from '../error.ts';
import { encodeBfloat16, encodeFloat16 } from '../half.ts';
import { checkSpec } from './check.ts';
import { byteSize, codeFormat, sections } from './layout.ts';
import { pack } from './pack.ts';
import { type EncodeOptions, nearestCode, quantizeGroup, storedScale } from './scale.ts';
import {
  type Codec,
  elements,
  formatSpec,
  groupSizeOf,
  isAffine,
  isPlain,
  specOf,
  type Weight,
  type WeightSpec,
} from './spec.ts';

/**
 * Encodes row-major floats, each to the nearest code. float32, float16 and bfloat16 keep NaN and infinities, and a
 * number too large for float16 becomes one; the integer codecs refuse them, and a group of zeros gives zeros.
 * @throws `WEIGHT_SHAPE`, `CODEC_SPEC`, `GROUP_SIZE`; of the integer codecs `WEIGHT_NOT_FINITE`, and `WEIGHT_RANGE`
 *   for a scale that float16 cannot hold
 */
export function encode(spec: WeightSpec, values: Float32Array, options?: EncodeOptions): Weight;
export function encode(codec: Codec, shape: readonly number[], values: Float32Array): Weight;
export function encode(
  first: WeightSpec | Codec,
  second: Float32Array | readonly number[],
  third?: Float32Array | EncodeOptions,
): Weight {
  return typeof first === 'string'
    ? encodeFloats({ codec: first, shape: second as readonly number[] }, third as Float32Array, {})
    : encodeFloats(specOf(first), second as Float32Array, third as EncodeOptions);
}

function encodeFloats(spec: WeightSpec, values: Float32Array, options?: EncodeOptions): Weight {
  const { codec, shape } = spec;
  if (codec === 'int32')
    throw new AttenuateError(
      'CODEC_SPEC',
      '[encode] codec of whole numbers: expected one that holds real numbers, got int32. Use encodeInt32.',
      { codec },
    );
  const n = elements(shape);
  checkSpec(spec);
  expectCount('values', n, values.length, spec);
  if (codec === 'float32')
    return { ...spec, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
  if (codec === 'float16') return { ...spec, bytes: encodeFloat16(values) };
  if (codec === 'bfloat16') return { ...spec, bytes: encodeBfloat16(values) };
  const size = groupSizeOf(spec);
  const codes = new Int8Array(n);
  const scales = new Float32Array(n / size);
  const zeros = new Uint8Array(n / size);
  for (let group = 0; group < scales.length; group++) {
    const [from, to] = [group * size, (group + 1) * size];
    const found = quantizeGroup(spec, values, from, to, options);
    scales[group] = found.scale;
    zeros[group] = found.zero;
    for (let i = from; i < to; i++) codes[i] = nearestCode(spec, values[i], found);
  }
  return assemble(spec, codes, scales, zeros);
}

/**
 * A weight of codes that a method chose: one code per element, row-major; one scale, and where the scheme is affine
 * one zero point, per group (see `groupSizeOf`). Scales are rounded to the type that they are stored in: choose
 * codes against `storedScale`.
 * @throws `CODEC_SPEC`, `GROUP_SIZE`, `WEIGHT_SHAPE`, `WEIGHT_CODE` for a code or zero point out of range,
 *   `WEIGHT_SCALE` for a scale that is not finite or negative, `WEIGHT_RANGE`
 */
export function encodeCodes(
  given: WeightSpec,
  codes: ArrayLike<number>,
  scales: ArrayLike<number>,
  zeros?: ArrayLike<number>,
): Weight {
  const spec = specOf(given);
  checkSpec(spec);
  if (isPlain(spec.codec))
    throw new AttenuateError(
      'CODEC_SPEC',
      `[encodeCodes] codec without codes: expected an integer codec, got ${spec.codec}. Use encode.`,
      { codec: spec.codec },
    );
  const n = elements(spec.shape);
  const groups = n / groupSizeOf(spec);
  const { low, high, step } = codeFormat(spec);
  expectCount('codes', n, codes.length, spec);
  expectCount('scales', groups, scales.length, spec);
  expectCount('zero points', isAffine(spec) ? groups : 0, zeros?.length ?? 0, spec);
  expectCodes('code', codes, low, high, step);
  if (zeros) expectCodes('zero point', zeros, 0, high, 1);
  const stored = Float32Array.from(scales, (scale, group) => {
    if (!(scale >= 0 && scale < Infinity))
      throw new AttenuateError(
        'WEIGHT_SCALE',
        `[encodeCodes] bad scale: expected a finite number ≥ 0, got ${scale} for group ${group}. Check the method that chose it.`,
        { group, scale },
      );
    return storedScale(spec, scale || 0);
  });
  return assemble(spec, codes, stored, Uint8Array.from(zeros ?? []));
}

/** Whole numbers as they are. @throws `WEIGHT_SHAPE` */
export function encodeInt32(shape: readonly number[], values: Int32Array): Weight {
  const spec = { codec: 'int32', shape } as const;
  expectCount('values', elements(shape), values.length, spec);
  return { ...spec, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

function expectCount(what: string, expected: number, got: number, spec: WeightSpec): void {
  if (got !== expected)
    throw new AttenuateError(
      'WEIGHT_SHAPE',
      `[encode] wrong number of ${what}: expected ${expected} for ${formatSpec(spec)}, got ${got}. Pass as many as the specification has.`,
      { shape: spec.shape, expected, got },
    );
}

function expectCodes(what: string, codes: ArrayLike<number>, low: number, high: number, step: number): void {
  for (let i = 0; i < codes.length; i++)
    if (!(codes[i] >= low && codes[i] <= high) || !Number.isInteger((codes[i] - low) / step))
      throw new AttenuateError(
        'WEIGHT_CODE',
        `[encodeCodes] ${what} out of range: expected ${step === 2 ? `${low} or ${high}` : `a whole number from ${low} to ${high}`}, got ${codes[i]} at ${i}. Check the method that chose it.`,
        { index: i, code: codes[i] },
      );
}

/** Codes in range and stored scales as a weight's bytes. */
function assemble(
  spec: WeightSpec,
  codes: ArrayLike<number>,
  scales: Float32Array,
  zeros: Uint8Array,
): Weight {
  const bytes = new Uint8Array(byteSize(spec));
  for (const { name, type, offset } of sections(spec))
    bytes.set(
      name === 'values'
        ? pack(spec, codes)
        : name === 'zeros'
          ? zeros
          : type === 'F16'
            ? encodeFloat16(scales)
            : new Uint8Array(scales.buffer),
      offset,
    );
  return { ...spec, bytes };
}
