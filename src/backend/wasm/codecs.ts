import type { Parameter } from '../../program/program.ts';
import { isFloat } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';

/** Floats, or int8 with a float32 scale for each row. */
export const isFloatOrRows = ({ codec, perTensor, scaleType }: Parameter): boolean =>
  isFloat(codec) || (codec === 'int8' && !perTensor && scaleType !== 'float16');

/** @throws `CODEC_UNSUPPORTED` */
export function expectServed(parameters: readonly Parameter[], serves: (p: Parameter) => boolean): void {
  const other = parameters.find((p) => !serves(p));
  if (other)
    throw new AttenuateError(
      'CODEC_UNSUPPORTED',
      `[wasm] no kernel for ${other.name}: expected another codec, got ${other.codec}. Quantise it otherwise.`,
      { name: other.name, codec: other.codec },
    );
}
