import { codeFormat, columnsOf, rowBytesOf, type Section, type WeightSpec } from '../tensor/codec.ts';
import { AttenuateError } from '../tensor/error.ts';

/** Takes the bytes of one section in order, in pieces of any size. */
export type SectionCheck = (bytes: Uint8Array) => void;

/**
 * Looks in a section's bytes for what `encode` never writes and a kernel would take for something else: scales that
 * are negative or not finite, zero points beyond the codes, the code that ternary does not use, bits behind a row's end.
 * Null where any byte is as good as another.
 * @throws `ARTIFACT_SCALE`, `ARTIFACT_ZERO`, `ARTIFACT_CODE` (when called with the bytes)
 */
export function sectionCheck(
  weight: string,
  spec: WeightSpec,
  { name, type, shape }: Section,
): SectionCheck | null {
  const bad = (code: string, what: string, expected: string, row: number) =>
    new AttenuateError(
      code,
      `[artifact] bad ${what} of ${weight}: expected ${expected}, got another in row ${row}. Build or download the artifact again.`,
      { weight, row },
    );
  const perRow = shape[1] ?? 1;
  if (name === 'scales') {
    const half = type === 'F16';
    const width = half ? 2 : 4;
    let [at, before] = [0, 0];
    return (bytes) => {
      // By index: an iterator makes an object for each byte.
      for (let i = 0; i < bytes.length; i++) {
        const byte = bytes[i];
        // The last byte holds the sign and the exponent; float32 keeps the exponent's lowest bit in the byte before.
        const last = at % width === width - 1;
        const special = half ? (byte & 0x7c) === 0x7c : byte === 0x7f && before & 0x80;
        if (last && (byte & 0x80 || special))
          throw bad(
            'ARTIFACT_SCALE',
            'scale',
            'a finite number that is not negative',
            Math.floor(at / width / perRow),
          );
        before = byte;
        at++;
      }
    };
  }
  if (type !== 'U8') return null;
  const { bits, high } = codeFormat(spec);
  let at = 0;
  if (name === 'zeros')
    return (bytes) => {
      for (let i = 0; i < bytes.length; i++) {
        if (bytes[i] > high)
          throw bad('ARTIFACT_ZERO', 'zero point', `at most ${high}`, Math.floor(at / perRow));
        at++;
      }
    };
  const rowBytes = rowBytesOf(spec);
  const used = (columnsOf(spec.shape) * bits) % 8;
  const ternary = spec.codec === 'ternary';
  if (!ternary && used === 0) return null;
  return (bytes) => {
    const row = (i: number) => Math.floor((at + i) / rowBytes);
    if (ternary)
      for (let i = 0; i < bytes.length; i++)
        if (bytes[i] & (bytes[i] >> 1) & 0x55) throw bad('ARTIFACT_CODE', 'code', 'one of three', row(i));
    if (used > 0)
      for (let i = rowBytes - 1 - (at % rowBytes); i < bytes.length; i += rowBytes)
        if (bytes[i] >> used) throw bad('ARTIFACT_CODE', 'code', 'zero bits behind the columns', row(i));
    at += bytes.length;
  };
}
