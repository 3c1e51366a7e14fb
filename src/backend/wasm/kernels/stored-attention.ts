import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type KernelContext, kernel, plus, reduce, times } from './kernel.ts';
import { clear, existing, productFunction } from './product.ts';

/** Queries and keys whose weights stand as floats at a time. */
const ROWS = 64;
const KEYS = 64;
const ROW_BYTES = KEYS * 4;

export interface StoredVariant {
  readonly headSize: number;
  readonly codec: 'float32' | 'int8';
}

const pad = (size: number): number => (size + 7) & ~7;

export const STORED_ROWS = ROWS;
/** Bytes of scratch that one thread needs: weights, their sums in four lanes, the output block. */
export const storedScratch = (headSize: number): number => ROWS * (ROW_BYTES + 16 + pad(headSize) * 4);

/** Eight roots as floats. */
function eight(codec: StoredVariant['codec'], f: FunctionBuilder, from: I32): readonly [V128, V128] {
  if (codec === 'float32') return [v128.load(from), v128.load(from, 16)];
  const codes = f.local('v128', v128.load8x8_s(from));
  return [
    f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes)),
    f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes)),
  ];
}

/** Squares of one row of `keys` roots → floats at `to`, zero up to a multiple of 8; adds them to the four lanes at `sum`. */
function unpackRow({ module }: KernelContext, codec: StoredVariant['codec']): number {
  const bytes = codec === 'int8' ? 1 : 4;
  return module.func(
    `stored_attention_unpack_${codec}`,
    { from: 'i32', to: 'i32', sum: 'i32', keys: 'i32' },
    (f, p) => {
      const total = f.local('v128', v128.load(p.sum));
      const x = f.localArray('v128', 2);
      f.while(
        () => i32.gt_s(p.keys, i32.const(0)),
        () => {
          eight(codec, f, p.from).forEach((v, j) => {
            f.set(x[j], v);
            f.set(x[j], f32x4.mul(x[j], x[j]));
          });
          f.if(i32.lt_s(p.keys, i32.const(8)), () => {
            for (let j = 0; j < 2; j++) {
              const lanes = v128.i32x4(4 * j, 4 * j + 1, 4 * j + 2, 4 * j + 3);
              f.set(x[j], v128.and(x[j], i32x4.lt_s(lanes, i32x4.splat(p.keys))));
            }
          });
          for (let j = 0; j < 2; j++) {
            f.emit(v128.store(p.to, x[j], 16 * j));
            f.set(total, f32x4.add(total, x[j]));
          }
          f.increment(p.from, 8 * bytes);
          f.increment(p.to, 32);
          f.increment(p.keys, -8);
        },
      );
      f.emit(v128.store(p.sum, total));
    },
  );
}

/** `o = row · inverse`, D columns. */
function writeRow(f: FunctionBuilder, headSize: number, from: I32, to: I32, inverse: Variable<'v128'>): void {
  for (let d = 0; d + 4 <= headSize; d += 4)
    f.emit(v128.store(to, f32x4.mul(v128.load(from, 4 * d), inverse), 4 * d));
  for (let d = headSize & ~3; d < headSize; d++)
    f.emit(f32.store(to, f32.mul(f32.load(from, 4 * d), f32x4.lane(inverse, 0)), 4 * d));
}

/** `o = R² · V / R² · 1` over the keys that exist. A unit is a block of queries of one head of one sequence. */
export function storedAttentionKernel({ headSize, codec }: StoredVariant) {
  const pitch = pad(headSize);
  const bytes = codec === 'int8' ? 1 : 4;
  return kernel({
    name: `stored_attention_${codec}_${headSize}`,
    fields: {
      /** Roots of weights `[H, most, most]`. */
      p: 'i32',
      most: 'i32',
      /** Values `[H, B, N, pitch]`. */
      v: 'i32',
      o: 'i32',
      lengths: 'i32',
      N: 'i32',
      B: 'i32',
      H: 'i32',
      /** Blocks of queries in a sequence. */
      blocks: 'i32',
      /** A row whose weights sum to less gives 0. */
      least: 'f32',
    },
    build(context, f, at, begin, end) {
      const product = productFunction(context, `stored_attention_${codec}`, pitch);
      const unpack = unpackRow(context, codec);
      const [unit, b, h, n, row, rows, first, keys, i, p, v, y] = f.localArray('i32', 12);
      const weights = context.scratch(f);
      const sums = f.local('i32', plus(weights, ROWS * ROW_BYTES));
      const out = f.local('i32', plus(sums, ROWS * 16));
      const [sum, inverse] = f.localArray('v128', 2);
      const rowBytes = f.local('i32', times(at.most, bytes));
      f.for(unit, begin, end, 1, () => {
        f.set(row, times(i32.rem_u(unit, at.blocks), ROWS));
        f.set(rows, i32.min_s(i32.const(ROWS), i32.sub(at.N, row)));
        f.set(h, i32.rem_u(i32.div_u(unit, at.blocks), at.H));
        f.set(b, i32.div_u(i32.div_u(unit, at.blocks), at.H));
        f.set(n, existing(at.lengths, b, at.N));
        f.set(p, i32.add(at.p, i32.mul(i32.add(i32.mul(h, at.most), row), rowBytes)));
        f.set(v, i32.add(at.v, i32.mul(i32.mul(i32.add(i32.mul(h, at.B), b), at.N), i32.const(pitch * 4))));
        clear(f, i, sums, i32.const(ROWS * (16 + pitch * 4)));
        f.for(first, i32.const(0), n, KEYS, () => {
          f.set(keys, i32.min_s(i32.const(KEYS), i32.sub(n, first)));
          f.for(i, i32.const(0), rows, 1, () =>
            f.call(
              unpack,
              i32.add(i32.add(p, i32.mul(i, rowBytes)), times(first, bytes)),
              i32.add(weights, times(i, ROW_BYTES)),
              i32.add(sums, times(i, 16)),
              keys,
            ),
          );
          f.call(
            product,
            weights,
            i32.const(ROW_BYTES),
            i32.add(v, i32.mul(first, i32.const(pitch * 4))),
            out,
            times(keys, 4),
            rows,
          );
        });
        const at0 = i32.mul(
          i32.add(i32.mul(i32.add(i32.mul(b, at.N), row), at.H), h),
          i32.const(headSize * 4),
        );
        f.set(y, i32.add(at.o, at0));
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(sum, v128.load(i32.add(sums, times(i, 16))));
          reduce(f, [sum], f32x4.add);
          f.set(inverse, v128.andnot(f32x4.div(f.constant(1), sum), f32x4.lt(sum, f32x4.splat(at.least))));
          const from = f.local('i32', i32.add(out, i32.mul(i, i32.const(pitch * 4))));
          writeRow(f, headSize, from, y, inverse);
          f.increment(y, i32.mul(at.H, i32.const(headSize * 4)));
        });
      });
    },
  });
}
