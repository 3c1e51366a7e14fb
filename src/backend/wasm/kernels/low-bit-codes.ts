import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { ROUND } from './gemm-int8.ts';
import type { Features } from './kernel.ts';

/** How codes of fewer than 8 bits stand in a panel. */
export interface LowBitVariant {
  readonly bits: 1 | 2 | 4;
  /** With a zero point for each group; codes are unsigned then, and otherwise two's complement. */
  readonly affine: boolean;
  /** Scales of groups in 16 or 32 bits, or one of 32 bits for a whole row. */
  readonly scales: 'half' | 'float' | 'row';
}

/**
 * What a code is multiplied by when it is taken out of its byte. Signed codes are left in a byte's highest bits, which
 * needs no sign extension; of a single bit ±1 stands one bit lower.
 */
export const factorOf = ({ bits, affine }: Pick<LowBitVariant, 'bits' | 'affine'>): number =>
  affine ? 1 : bits === 1 ? 64 : 2 ** (8 - bits);

/** The byte sixteen times, from the module's table of constants: V8 would make a `v128.const` anew at each use. */
const bytes = (f: FunctionBuilder, byte: number): V128 =>
  f.constant(new Float32Array(new Uint8Array(4).fill(byte).buffer)[0]);

/** The largest magnitude of a code less its zero point. */
export const largestCode = ({ bits, affine }: Pick<LowBitVariant, 'bits' | 'affine'>): number =>
  affine ? 2 ** bits - 1 : 2 ** (bits - 1);

/**
 * Takes codes out of packed vectors, 16 at a time: byte i of `packed` holds byte i of `8 / bits` of them, lowest bits
 * first. `plain` ones are the codes themselves, others are multiplied by `factorOf`.
 */
function unpacker(
  f: FunctionBuilder,
  { bits, affine }: LowBitVariant,
  plain: boolean,
): (packed: V128, place: number) => V128 {
  if (affine || plain) {
    const mask = bytes(f, 2 ** bits - 1);
    const low = (packed: V128, place: number) =>
      v128.and(place ? i16x8.shr_u(packed, i32.const(bits * place)) : packed, mask);
    if (affine) return low;
    if (bits === 1) {
      const one = bytes(f, 1);
      // A panel's bits are signs: 1 for −1.
      return (packed, place) => {
        const bit = f.local('v128', low(packed, place));
        return i8x16.sub(one, i8x16.add(bit, bit));
      };
    }
    const sign = bytes(f, 2 ** (bits - 1));
    return (packed, place) => i8x16.sub(v128.xor(low(packed, place), sign), sign);
  }
  const mask = bytes(f, 256 - 2 ** (8 - bits));
  const sign = bits === 1 ? bytes(f, 64) : null;
  return (packed, place) => {
    const up = 8 - bits * (place + 1);
    const top = v128.and(up ? i16x8.shl(packed, i32.const(up)) : packed, mask);
    return sign ? v128.or(top, sign) : top;
  };
}

const PAIRS = [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7];
const HALVES = [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29];

/** Zero points of one group of a panel, each where the codes of its column stand in an unpacked vector. */
function loadZeros(
  f: FunctionBuilder,
  { dot }: Features,
  half: boolean,
  at: I32,
  zeros: readonly Variable<'v128'>[],
): void {
  const x = f.local('v128');
  zeros.forEach((zero, i) => {
    // An unpacked vector holds 4 codes of each of 4 columns, or 2 of each of 8; a slot its zero point 4 times, or 2.
    if (half === (dot === 'i16')) f.set(zero, v128.load(at, 16 * i));
    else if (half) {
      const lanes = PAIRS.map((lane) => lane + 8 * (i & 1));
      f.set(x, v128.load(at, 16 * (i >> 1)));
      f.set(zero, v128.shuffle(x, x, lanes));
    } else f.set(zero, v128.shuffle(v128.load(at, 32 * i), v128.load(at, 32 * i + 16), HALVES));
  });
}

/** Reads the codes of a panel from `at` on as bytes, group by group and round by round. */
export interface CodeReader {
  /** Vectors of 16 codes that one step takes: 4 bytes of a row of a. */
  readonly perStep: number;
  /** Steps of a round, and the bytes of a row of a that it takes. */
  readonly steps: number;
  readonly roundBytes: number;
  /** Bytes of the scales of a group, and of its zero points. */
  readonly groupBytes: number;
  /** Makes the next group's zero points ready. */
  startGroup(): void;
  /** The codes of vector `index` of the round. */
  codes(index: number): V128;
  nextRound(): void;
}

/**
 * @param zerosAt where the zero points of the first group are, of an affine variant
 * @param plain whether codes come as they are; otherwise multiplied by `factorOf`
 */
export function codeReader(
  f: FunctionBuilder,
  features: Features,
  variant: LowBitVariant,
  at: Variable<'i32'>,
  zerosAt: Variable<'i32'>,
  plain = false,
): CodeReader {
  const wide = features.dot === 'i16';
  const perStep = features.panel / (wide ? 8 : 4);
  const roundBytes = ROUND * (wide ? 2 : 1);
  const steps = roundBytes / 4;
  const perByte = 8 / variant.bits;
  const groupBytes = features.panel * (variant.scales === 'half' ? 2 : 4);
  const zeros = f.localArray('v128', variant.affine ? perStep : 0);
  const packed = f.local('v128');
  const unpack = unpacker(f, variant, plain);
  return {
    perStep,
    steps,
    roundBytes,
    groupBytes,
    startGroup() {
      if (!variant.affine) return;
      loadZeros(f, features, variant.scales === 'half', zerosAt, zeros);
      f.increment(zerosAt, groupBytes);
    },
    codes(index) {
      if (index % perByte === 0) f.set(packed, v128.load(at, (16 * index) / perByte));
      const codes = unpack(packed, index % perByte);
      return variant.affine ? i8x16.sub(codes, zeros[index % perStep]) : codes;
    },
    nextRound: () => f.increment(at, (16 * steps * perStep) / perByte),
  };
}

/**
 * Four scales as floats, over what codes were multiplied by: nothing where they are `plain`. Those of 32 bits are stored
 * divided by `factorOf`; of a 16-bit float the exponent is rebased by a product.
 */
export function loadScales(
  f: FunctionBuilder,
  variant: LowBitVariant,
  at: I32,
  vector: number,
  plain = false,
): V128 {
  const factor = factorOf(variant);
  if (variant.scales !== 'half') {
    const scales = v128.load(at, 16 * vector);
    return plain && factor !== 1 ? f32x4.mul(scales, f.constant(factor)) : scales;
  }
  const bits = i32x4.shl(v128.load16x4_u(at, 8 * vector), i32.const(13));
  return f32x4.mul(bits, f.constant(2 ** 112 / (plain ? 1 : factor)));
}
