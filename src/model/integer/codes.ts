import { MOST_SHIFT } from '../../program/integer/dyadic.ts';
import { GELU_INPUT, LEAST_FRACTION, MOST_FRACTION } from '../../program/integer/gelu.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { CodeSpec, IntegerSpec } from '../config.ts';

const invalid = (what: string, expected: string, got: unknown) =>
  new AttenuateError(
    'INTEGER_CONFIG',
    `[integer] bad ${what}: expected ${expected}, got ${JSON.stringify(got) ?? 'nothing'}. Make the integer model again.`,
    { what },
  );

const own = <T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined =>
  record && Object.hasOwn(record, name) ? record[name] : undefined;

/** Reads scales and shifts of unknown origin. @throws `INTEGER_CONFIG` for one that is missing or out of range */
export class IntegerCodes {
  private readonly spec: IntegerSpec;

  constructor(spec: IntegerSpec) {
    this.spec = spec;
  }

  codes(name: string): CodeSpec {
    const spec = own(this.spec.codes, name);
    const { scale, zeroPoint } = spec ?? {};
    if (!(typeof scale === 'number' && scale > 1e-30 && scale < 1e30))
      throw invalid(`scale of ${name}`, 'a number above 1e-30, below 1e30', scale);
    if (!(Number.isInteger(zeroPoint) && Math.abs(zeroPoint! + 0.5) < 128))
      throw invalid(`zero point of ${name}`, 'a whole number from −128 to 127', zeroPoint);
    return { scale, zeroPoint: zeroPoint! };
  }

  /** Codes whose zero is 0: those that products with each other are taken of, and sums. */
  scale(name: string): number {
    const { scale, zeroPoint } = this.codes(name);
    if (zeroPoint !== 0) throw invalid(`zero point of ${name}`, '0', zeroPoint);
    return scale;
  }

  shift(name: string): number {
    const shift = own(this.spec.shifts, name);
    if (!(Number.isInteger(shift) && shift! >= 1 && shift! <= MOST_SHIFT))
      throw invalid(`shift of ${name}`, `a whole number from 1 to ${MOST_SHIFT}`, shift);
    return shift!;
  }
}

/**
 * Bits behind the point of what goes into GELU: as many as leave all that the codes of its output can hold within 16
 * bits, so that clamping there changes nothing. @throws `INTEGER_RANGE` for outputs beyond 512
 */
export function geluFraction({ scale, zeroPoint }: CodeSpec): number {
  for (let fraction = MOST_FRACTION; fraction >= LEAST_FRACTION; fraction--)
    if ((127 - zeroPoint) * scale <= (GELU_INPUT - 1) / 2 ** fraction) return fraction;
  throw new AttenuateError(
    'INTEGER_RANGE',
    `[integer] activations too large for 16 bits: expected at most ${(GELU_INPUT - 1) / 2 ** LEAST_FRACTION} behind GELU, got ${(127 - zeroPoint) * scale}. Leave this model in floating point.`,
    { most: (127 - zeroPoint) * scale },
  );
}
