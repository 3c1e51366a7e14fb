import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type ProductFamily, rowPointers, TILE } from './gemm.ts';
import { finishInteger, ROUND } from './gemm-int8.ts';
import { integerDot, splitsOf } from './integer-dot.ts';
import { type Features, multiplyAdd, times } from './kernel.ts';

/** How codes of fewer than 8 bits stand in a panel. */
export interface LowBitVariant {
  readonly bits: 1 | 2 | 4;
  /** With a zero point for each group; codes are unsigned then, and otherwise two's complement. */
  readonly affine: boolean;
  /** Scales in 16 bits. */
  readonly half: boolean;
}

/** The byte sixteen times, from the module's table of constants: V8 would make a `v128.const` anew at each use. */
const bytes = (f: FunctionBuilder, byte: number): V128 =>
  f.constant(new Float32Array(new Uint8Array(4).fill(byte).buffer)[0]);

/**
 * What a code is multiplied by when it is taken out of its byte. Signed codes are left in a byte's highest bits, which
 * needs no sign extension; of a single bit ±1 stands one bit lower.
 */
const factorOf = ({ bits, affine }: LowBitVariant): number =>
  affine ? 1 : bits === 1 ? 64 : 2 ** (8 - bits);

/** Takes codes out of packed vectors, 16 at a time: byte i of `packed` holds byte i of `8 / bits` of them, lowest bits first. */
function unpacker(
  f: FunctionBuilder,
  { bits, affine }: LowBitVariant,
): (packed: V128, place: number) => V128 {
  if (affine) {
    const mask = bytes(f, 2 ** bits - 1);
    return (packed, place) => v128.and(place ? i16x8.shr_u(packed, i32.const(bits * place)) : packed, mask);
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
      f.set(x, v128.load(at, 16 * (i >> 1)));
      f.set(
        zero,
        v128.shuffle(
          x,
          x,
          PAIRS.map((lane) => lane + 8 * (i & 1)),
        ),
      );
    } else f.set(zero, v128.shuffle(v128.load(at, 32 * i), v128.load(at, 32 * i + 16), HALVES));
  });
}

/** Four scales as floats, over what codes were multiplied by. Of a 16-bit float the exponent is rebased by a product. */
function loadScales(f: FunctionBuilder, variant: LowBitVariant, at: I32, vector: number): V128 {
  if (!variant.half) {
    const scales = v128.load(at, 16 * vector);
    return variant.affine ? scales : f32x4.mul(scales, f.constant(1 / factorOf(variant)));
  }
  const bits = i32x4.shl(v128.load16x4_u(at, 8 * vector), i32.const(13));
  return f32x4.mul(bits, f.constant(2 ** 112 / factorOf(variant)));
}

/**
 * Codes of 4, 2 or 1 bits, group by group: a group's sum is exact in integers, groups are added as floats, in the
 * tile's place of the output. Weights are taken out of their bits in registers, once for each tile.
 */
export function lowBitProduct(name: string, variant: LowBitVariant): ProductFamily {
  return {
    name,
    // The masks take the registers of the sixth row.
    most: (tiles) => Math.min(tiles.int8, 5),
    tile({ module, features }, tileName, rows) {
      const vectors = features.panel / 4;
      const wide = features.dot === 'i16';
      const roundBytes = ROUND * (wide ? 2 : 1);
      const perByte = 8 / variant.bits;
      /** Vectors of 16 codes that one step (4 bytes of a row of a) takes. */
      const perStep = wide ? vectors / 2 : vectors;
      const outputs = rows * vectors;
      const splits = splitsOf(features, outputs);
      const madd = multiplyAdd(features);
      return module.func(`${tileName}_${rows}`, TILE, (f, p) => {
        const acc = f.localArray('v128', outputs * splits);
        const b = f.localArray('v128', vectors);
        const zeros = f.localArray('v128', variant.affine ? perStep : 0);
        const [a, packed] = f.localArray('v128', 2);
        const [groupEnd, zerosAt, to] = f.localArray('i32', 3);
        const row = rowPointers(f, p.a, rows, p.lda);
        const end = f.local('i32', i32.add(p.a, times(p.K, wide ? 2 : 1)));
        const dot = integerDot(f, features);
        const unpack = unpacker(f, variant);
        const groupScales = features.panel * (variant.half ? 2 : 4);
        if (variant.affine)
          f.set(
            zerosAt,
            i32.add(p.scales, i32.mul(i32.div_u(i32.sub(end, p.a), p.group), i32.const(groupScales))),
          );
        const eachOutput = (body: (i: number, j: number) => void) => {
          f.set(to, p.c);
          for (let i = 0; i < rows; i++) {
            for (let j = 0; j < vectors; j++) body(i, j);
            if (i < rows - 1) f.set(to, i32.add(to, p.ldc));
          }
        };
        /** The weights of one step. */
        const weights = (step: number) => {
          for (let x = 0; x < perStep; x++) {
            const vector = step * perStep + x;
            if (vector % perByte === 0) f.set(packed, v128.load(p.b, (16 * vector) / perByte));
            const codes = unpack(packed, vector % perByte);
            const taken = variant.affine ? i8x16.sub(codes, zeros[x]) : codes;
            if (!wide) f.set(b[x], taken);
            else {
              f.set(a, taken);
              f.set(b[2 * x], i16x8.extend_low_i8x16_s(a));
              f.set(b[2 * x + 1], i16x8.extend_high_i8x16_s(a));
            }
          }
        };
        eachOutput((_, j) => f.emit(v128.store(to, v128.zero, 16 * j)));
        f.while(
          () => i32.lt_u(p.a, end),
          () => {
            for (const x of acc) f.set(x, v128.zero);
            if (variant.affine) {
              loadZeros(f, features, variant.half, zerosAt, zeros);
              f.increment(zerosAt, groupScales);
            }
            f.set(groupEnd, i32.add(p.a, p.group));
            f.doWhile(
              () => {
                for (let step = 0; step < roundBytes / 4; step++) {
                  weights(step);
                  for (let i = 0; i < rows; i++) {
                    f.set(a, v128.load32_splat(row[i], 4 * step));
                    for (let j = 0; j < vectors; j++) {
                      const at = acc[(step % splits) * outputs + i * vectors + j];
                      f.set(at, dot(b[j], a, at));
                    }
                  }
                }
                f.increment(p.b, (4 * roundBytes * perStep) / perByte);
                for (const r of row) f.increment(r, roundBytes);
              },
              () => i32.lt_u(p.a, groupEnd),
            );
            for (let j = 0; j < vectors; j++) f.set(b[j], loadScales(f, variant, p.scales, j));
            f.increment(p.scales, groupScales);
            eachOutput((i, j) => {
              let sum: V128 = acc[i * vectors + j];
              for (let s = 1; s < splits; s++) sum = i32x4.add(sum, acc[s * outputs + i * vectors + j]);
              f.emit(v128.store(to, madd(f32x4.convert_i32x4_s(sum), b[j], v128.load(to, 16 * j)), 16 * j));
            });
          },
        );
        finishInteger(
          f,
          features,
          p,
          rows,
          () => {},
          (_, j, scale, rest, at) => madd(v128.load(at, 16 * j), scale, rest),
        );
      });
    },
  };
}
