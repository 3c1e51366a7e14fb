import type { FunctionBuilder } from '../assembler.ts';
import { type F32, f32, type I32, i32 } from '../instructions.ts';
import { type Features, kernel, plus, times } from './kernel.ts';
import type { LowBitVariant } from './low-bit-codes.ts';
import { depthOf, eachPackedRow, PACK_FIELDS } from './pack.ts';

/** How scales of groups stand in a panel (`PanelLayout`). */
export interface ScaleSlots {
  /** In 16 bits, and not in 32. */
  readonly half: boolean;
  /** Columns of the panel. */
  readonly width: number;
  /** What scales of 32 bits are divided by: a power of two that a tile multiplies codes by. */
  readonly divisor: number;
}

type Row = Parameters<Parameters<typeof eachPackedRow>[5]>[0];
type At = Parameters<typeof eachPackedRow>[1];

/** The slot of a column's scale in `group`, or of its zero point: `from` is where the panel's begin. */
const slot = (
  { half, width }: Pick<ScaleSlots, 'half' | 'width'>,
  from: I32,
  { panel, column }: Row,
  group: I32,
): I32 =>
  i32.add(i32.add(panel, from), times(i32.add(i32.mul(group, i32.const(width)), column), half ? 2 : 4));
const store = ({ half }: Pick<ScaleSlots, 'half'>, at: I32, x: I32) =>
  (half ? i32.store16 : i32.store)(at, x);
const load = ({ half }: Pick<ScaleSlots, 'half'>, at: I32): I32 => (half ? i32.load16_s : i32.load)(at);

/** Groups of a row; a whole row is one group, shorter than its padding. */
const groupsOf = (at: At): I32 => i32.div_u(i32.add(at.K, plus(at.group, -1)), at.group);

/**
 * Codes of 4, 2 or 1 bits, each with the others that a tile takes out of the same vector: the 16 codes that a vector
 * of int8 would hold become bits of 16 bytes. What is stored with an offset becomes two's complement; a single bit is
 * 1 for −1 then.
 */
export const packCodesKernel = ({ bits, affine, scales }: LowBitVariant, offset: number) =>
  kernel({
    name: `pack_codes_${bits}`,
    fields: PACK_FIELDS,
    build({ features }, f, at, begin, end) {
      const { panel: width } = features;
      const depth = depthOf(features);
      const perByte = 8 / bits;
      const [k, code, sum, group, index, target] = f.localArray('i32', 6);
      const mask = i32.const(2 ** bits - 1);
      const value = (): I32 => {
        if (affine) return code;
        if (bits === 1) return i32.sub(i32.const(1), times(code, 2));
        return i32.shr_s(i32.shl(code, i32.const(32 - bits)), i32.const(32 - bits));
      };
      eachPackedRow(f, at, begin, end, width, (row) => {
        f.set(sum, i32.const(0));
        f.for(k, i32.const(0), at.K, 1, () => {
          const byte = i32.load8_u(i32.add(row.from, i32.shr_u(k, i32.const(Math.log2(perByte)))));
          const stored = i32.shr_u(byte, times(i32.and(k, i32.const(perByte - 1)), bits));
          f.set(code, i32.and(i32.sub(stored, i32.const(offset)), mask));
          f.set(sum, i32.add(sum, value()));
          const step = times(i32.shr_u(k, i32.const(Math.log2(depth))), width);
          f.set(index, i32.add(times(i32.add(step, row.column), depth), i32.and(k, i32.const(depth - 1))));
          const vector = i32.shr_u(index, i32.const(4));
          f.set(
            target,
            i32.add(
              i32.add(row.panel, times(i32.shr_u(vector, i32.const(Math.log2(perByte))), 16)),
              i32.and(index, i32.const(15)),
            ),
          );
          const place = times(i32.and(vector, i32.const(perByte - 1)), bits);
          f.emit(i32.store8(target, i32.or(i32.load8_u(target), i32.shl(code, place))));
          f.set(group, i32.div_u(k, at.group));
          const last = i32.or(i32.eq(plus(k, 1), at.K), i32.ne(i32.div_u(plus(k, 1), at.group), group));
          f.if(last, () => {
            const slots = { half: scales === 'half', width };
            f.emit(store(slots, slot(slots, affine ? at.zerosAt : at.scalesAt, row, group), sum));
            f.set(sum, i32.const(0));
          });
        });
      });
    },
  });

const fromHalf = (bits: I32): F32 =>
  f32.mul(f32.reinterpret_i32(i32.shl(bits, i32.const(13))), f32.const(2 ** 112));

/** Adds a group to a column's correction, Σ scale · (sum of codes less zero points): in float32, as the product does. */
const correct = (f: FunctionBuilder, { sum: at }: Row, scale: F32, sum: I32): void =>
  f.emit(f32.store(at, f32.add(f32.load(at), f32.mul(f32.convert_i32_s(sum), scale))));

/** Scales into their slots. Of symmetric codes the sums waited there; of others they wait for the zero points. */
export const packScalesKernel = (
  stored: 'float16' | 'float32',
  affine: boolean,
  slotsOf: (features: Features) => ScaleSlots,
) =>
  kernel({
    name: `pack_scales_${stored}`,
    fields: PACK_FIELDS,
    build({ features }, f, at, begin, end) {
      const slots = slotsOf(features);
      const [group, slotAt] = f.localArray('i32', 2);
      const scale = f.local('f32');
      eachPackedRow(f, at, begin, end, slots.width, (row) => {
        f.emit(f32.store(row.sum, f32.const(0)));
        f.for(group, i32.const(0), groupsOf(at), 1, () => {
          f.set(slotAt, slot(slots, at.scalesAt, row, group));
          f.set(scale, stored === 'float16' ? fromHalf(i32.load16_u(row.from)) : f32.load(row.from));
          if (!affine) correct(f, row, scale, load(slots, slotAt));
          f.emit(
            slots.half
              ? i32.store16(slotAt, i32.load16_u(row.from))
              : f32.store(slotAt, f32.mul(scale, f32.const(1 / slots.divisor))),
          );
          f.increment(row.from, stored === 'float16' ? 2 : 4);
        });
      });
    },
  });

/** Zero points into their slots, in each byte of them: so many codes stand side by side in a vector. */
export const packZerosKernel = (slotsOf: (features: Features) => ScaleSlots) =>
  kernel({
    name: 'pack_zeros',
    fields: PACK_FIELDS,
    build({ features }, f, at, begin, end) {
      const slots = slotsOf(features);
      const [group, zero, slotAt] = f.localArray('i32', 3);
      const scale = f.local('f32');
      eachPackedRow(f, at, begin, end, slots.width, (row) => {
        f.for(group, i32.const(0), groupsOf(at), 1, () => {
          f.set(zero, i32.load8_u(i32.add(row.from, group)));
          f.set(slotAt, slot(slots, at.scalesAt, row, group));
          f.set(scale, slots.half ? fromHalf(i32.load16_u(slotAt)) : f32.load(slotAt));
          f.set(slotAt, slot(slots, at.zerosAt, row, group));
          const taken = i32.mul(zero, i32.min_s(at.group, at.K));
          correct(f, row, scale, i32.sub(load(slots, slotAt), taken));
          f.emit(store(slots, slotAt, i32.mul(zero, i32.const(slots.half ? 0x0101 : 0x01010101))));
        });
      });
    },
  });

/** Rows of bits, a byte of each column side by side: `[K / 8][width]`. In the slots stands how many a group has. */
export const packSignsKernel = (slotsOf: (features: Features) => ScaleSlots) =>
  kernel({
    name: 'pack_signs',
    fields: PACK_FIELDS,
    build({ features }, f, at, begin, end) {
      const slots = slotsOf(features);
      const [i, group] = f.localArray('i32', 2);
      eachPackedRow(f, at, begin, end, slots.width, (row) => {
        f.for(i, i32.const(0), at.rowBytes, 1, () =>
          f.emit(
            i32.store8(
              i32.add(i32.add(row.panel, times(i, slots.width)), row.column),
              i32.load8_u(i32.add(row.from, i)),
            ),
          ),
        );
        f.for(group, i32.const(0), groupsOf(at), 1, () =>
          f.emit(store(slots, slot(slots, at.scalesAt, row, group), i32.min_s(at.group, at.K))),
        );
      });
    },
  });
