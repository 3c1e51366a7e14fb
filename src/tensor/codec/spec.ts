/** Codecs that real numbers may be encoded in. */
export const CODECS = [
  'float32',
  'float16',
  'bfloat16',
  'int8',
  'int4',
  'int2',
  'ternary',
  'binary',
] as const;
/** `CODECS` hold real numbers; `int32` holds whole ones, the constants of integer arithmetic. */
export type Codec = (typeof CODECS)[number] | 'int32';

/** What a weight is, without its bytes. A row is what the last axis spans: shape `[…rows, columns]`. */
export interface WeightSpec {
  readonly codec: Codec;
  readonly shape: readonly number[];
  /** int4, int2, ternary, binary: columns that share a scale, 32, 64 or 128, a divisor of the columns; absent: the whole row. */
  readonly groupSize?: number;
  /** int4, int2: `symmetric` (default) is code · scale, `affine` is (code − zero) · scale. */
  readonly scheme?: 'symmetric' | 'affine';
  /** Default float32 for int8, float16 for the others. */
  readonly scaleType?: 'float32' | 'float16';
  /** int8: one scale for the whole tensor. */
  readonly perTensor?: boolean;
}

/** A weight: a specification and its bytes, laid out as `sections` says. */
export interface Weight extends WeightSpec {
  readonly bytes: Uint8Array;
}

export const elements = (shape: readonly number[]): number => shape.reduce((product, d) => product * d, 1);
export const columnsOf = (shape: readonly number[]): number => shape[shape.length - 1] ?? 1;
export const rowsOf = (shape: readonly number[]): number => elements(shape) / columnsOf(shape);

export const isFloat = (codec: Codec): codec is 'float32' | 'float16' | 'bfloat16' => codec.includes('float');
/** Whether a codec stores numbers themselves, and not codes with scales. */
export const isPlain = (codec: Codec): codec is 'float32' | 'float16' | 'bfloat16' | 'int32' =>
  isFloat(codec) || codec === 'int32';

export const isAffine = ({ scheme }: WeightSpec): boolean => scheme === 'affine';
export const scaleTypeOf = ({ codec, scaleType }: WeightSpec): 'float32' | 'float16' =>
  scaleType ?? (codec === 'int8' ? 'float32' : 'float16');

/** Elements that share a scale; in row-major order element i belongs to group ⌊i / size⌋. */
export const groupSizeOf = ({ shape, groupSize, perTensor }: WeightSpec): number =>
  perTensor ? elements(shape) : (groupSize ?? columnsOf(shape));

export const GROUP_SIZES: readonly number[] = [32, 64, 128];

/** Whether the codec has the options that are given, and the groups divide the columns. */
export function optionsFit({ codec, shape, groupSize, scheme, scaleType, perTensor }: WeightSpec): boolean {
  const low = !isPlain(codec) && codec !== 'int8';
  return (
    (!scheme || codec === 'int4' || codec === 'int2') &&
    (!perTensor || codec === 'int8') &&
    (!scaleType || !isPlain(codec)) &&
    (groupSize === undefined ||
      (low && GROUP_SIZES.includes(groupSize) && columnsOf(shape) % groupSize === 0))
  );
}

/** A specification alone, of a weight or of anything that extends it, without members that hold the default. */
export function specOf(spec: WeightSpec): WeightSpec {
  const { codec, shape, groupSize, scheme, scaleType, perTensor } = spec;
  return {
    codec,
    shape,
    ...(groupSize !== undefined && { groupSize }),
    ...(scheme === 'affine' && { scheme }),
    ...(scaleType && scaleType !== scaleTypeOf({ codec, shape }) && { scaleType }),
    ...(perTensor && { perTensor }),
  };
}

/** `int4 affine [384,1536] in groups of 32`: equal for specifications that mean the same, and only for them. */
export function formatSpec(spec: WeightSpec): string {
  const { codec, shape, groupSize, scheme, scaleType, perTensor } = specOf(spec);
  return [
    codec,
    scheme,
    `[${shape}]`,
    groupSize && `in groups of ${groupSize}`,
    perTensor && 'with one scale',
    scaleType && `with ${scaleType} scales`,
  ]
    .filter(Boolean)
    .join(' ');
}
