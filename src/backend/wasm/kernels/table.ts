import { codeFormat, isAffine, isFloat, scaleTypeOf, type WeightSpec } from '../../../tensor/codec.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { widenHalf } from './half.ts';
import { plus, times } from './kernel.ts';

/** How an embedding table is stored; its shape does not change the code that reads it. */
export type TableFormat = Omit<WeightSpec, 'shape'>;

/** Where a table stands: addresses of its sections, as `tensor/codec` lays them out. */
export interface TableAddress {
  readonly values: I32;
  readonly scales: I32;
  readonly zeros: I32;
}

/** Reads rows of a table eight columns at a time; what it gives past a row's end is of no meaning. */
export interface TableReader {
  /** Goes to a row of `columns` values. */
  start(row: I32, columns: I32): void;
  /** Columns `column` to `column` + 7, in order, `column` being a multiple of 8. */
  next(column: I32): readonly [V128, V128];
}

export function tableReader(f: FunctionBuilder, format: TableFormat, at: TableAddress): TableReader {
  const cursor = f.local('i32');
  const rowStart = (row: I32, bytes: I32) => f.set(cursor, i32.add(at.values, i32.mul(row, bytes)));
  if (isFloat(format.codec)) {
    const width = format.codec === 'float32' ? 4 : 2;
    return {
      start: (row, columns) => rowStart(row, times(columns, width)),
      next: () => {
        const raw = [0, 16].map((offset) => f.local('v128', v128.load(cursor, width === 4 ? offset : 0)));
        f.increment(cursor, 8 * width);
        if (width === 4) return [raw[0], raw[1]];
        const widened = [i32x4.extend_low_i16x8_u(raw[0]), i32x4.extend_high_i16x8_u(raw[0])] as const;
        const value = (h: V128) =>
          f.local(
            'v128',
            format.codec === 'float16' ? widenHalf(f, f.local('v128', h)) : i32x4.shl(h, i32.const(16)),
          );
        return [value(widened[0]), value(widened[1])];
      },
    };
  }
  return codeReader(f, format, at, cursor, rowStart);
}

function codeReader(
  f: FunctionBuilder,
  format: TableFormat,
  at: TableAddress,
  cursor: Variable<'i32'>,
  rowStart: (row: I32, bytes: I32) => void,
): TableReader {
  const { bits, low, step } = codeFormat({ ...format, shape: [] });
  const scaleBytes = scaleTypeOf({ ...format, shape: [] }) === 'float16' ? 2 : 4;
  const [group, next] = f.localArray('i32', 2);
  const [scale, offset] = f.localArray('v128', 2);
  const toGroup = (index: I32) => {
    f.set(group, index);
    const from = i32.add(at.scales, times(group, scaleBytes));
    f.set(
      scale,
      scaleBytes === 4
        ? v128.load32_splat(from)
        : widenHalf(f, f.local('v128', i32x4.extend_low_i16x8_u(v128.load16_splat(from)))),
    );
    f.set(
      offset,
      f32x4.convert_i32x4_s(
        isAffine({ ...format, shape: [] })
          ? i32x4.sub(v128.zero, i32x4.splat(i32.load8_u(i32.add(at.zeros, group))))
          : v128.i32x4(low),
      ),
    );
  };
  const value = (codes: V128) => f.local('v128', f32x4.mul(codes, scale));
  /** Each lane's own bits of a word that stands in all four, at their place in it, brought down to 0 … 2^bits − 1. */
  const four = (word: V128) => {
    const lanes = [0, 1, 2, 3];
    const stored = f32x4.mul(
      f32x4.convert_i32x4_s(v128.and(word, v128.i32x4(...lanes.map((i) => (2 ** bits - 1) << (bits * i))))),
      v128.f32x4(...lanes.map((i) => step * 2 ** (-bits * i))),
    );
    return value(f32x4.add(stored, offset));
  };
  return {
    start(row, columns) {
      rowStart(row, bits === 8 ? columns : i32.shr_u(plus(times(columns, bits), 7), i32.const(3)));
      if (format.perTensor) toGroup(i32.const(0));
      else if (!format.groupSize) toGroup(row);
      else f.set(next, i32.mul(row, i32.shr_u(columns, i32.const(Math.log2(format.groupSize)))));
    },
    next(column) {
      const { groupSize } = format;
      if (groupSize)
        f.if(i32.eqz(i32.and(column, i32.const(groupSize - 1))), () => {
          toGroup(next);
          f.increment(next, 1);
        });
      if (bits === 8) {
        const codes = f.local('v128', v128.load8x8_s(cursor));
        f.increment(cursor, 8);
        return [
          value(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes))),
          value(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes))),
        ];
      }
      const word = f.local(
        'v128',
        bits === 4
          ? v128.load32_splat(cursor)
          : i32x4.splat(bits === 2 ? i32.load16_u(cursor) : i32.load8_u(cursor)),
      );
      f.increment(cursor, bits);
      return [four(word), four(i32x4.shr_u(word, i32.const(4 * bits)))];
    },
  };
}
