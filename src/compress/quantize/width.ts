import { CODECS, checkSpec, columnsOf, type WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';

/** How a weight is stored, whatever its shape. */
export type Width = Omit<WeightSpec, 'shape'>;

/**
 * A width as one word, the reverse of `parseWidth`: `int8`, `int4-g32`, `int4-g128-affine`, `int8-tensor`. Scales of
 * another type than the codec's own come last: `int4-g32-float32`.
 */
export const formatWidth = ({ codec, groupSize, scheme, perTensor, scaleType }: Width): string =>
  [
    codec,
    groupSize === undefined ? '' : `g${groupSize}`,
    scheme === 'affine' ? scheme : '',
    perTensor ? 'tensor' : '',
    scaleType && scaleType !== (codec === 'int8' ? 'float32' : 'float16') ? scaleType : '',
  ]
    .filter(Boolean)
    .join('-');

/** A width from one word: a codec, then `g32`, `affine`, `tensor` or a type of scales. @throws `WIDTH_UNKNOWN`, `CODEC_SPEC` */
export function parseWidth(text: string): Width {
  const [codec, ...parts] = text.trim().split('-');
  const unknown = (): AttenuateError =>
    new AttenuateError(
      'WIDTH_UNKNOWN',
      `[quantize] unknown width: expected one of ${CODECS.join(', ')}, with -g32, -g64, -g128 or -affine behind it where it has groups, got ${JSON.stringify(text)}. Correct it.`,
      { got: text },
    );
  const known = CODECS.find((name) => name === codec);
  if (!known) throw unknown();
  let width: Width = { codec: known };
  for (const part of parts) {
    const [, group] = /^g(\d+)$/.exec(part) ?? [];
    if (group !== undefined) width = { ...width, groupSize: Number(group) };
    else if (part === 'affine' || part === 'symmetric') width = { ...width, scheme: part };
    else if (part === 'tensor') width = { ...width, perTensor: true };
    else if (part === 'float16' || part === 'float32') width = { ...width, scaleType: part };
    else throw unknown();
  }
  // 128 columns take every group size there is.
  checkSpec({ ...width, shape: [1, 128] });
  return width;
}

/** Whether a weight of this shape can be stored so: groups must divide its columns. */
export const fitsWidth = (shape: readonly number[], { groupSize }: Width): boolean =>
  groupSize === undefined || columnsOf(shape) % groupSize === 0;
