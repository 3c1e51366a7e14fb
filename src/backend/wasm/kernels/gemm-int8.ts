import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type ProductFamily, rowPointers, TILE } from './gemm.ts';
import { integerDot, splitsOf } from './integer-dot.ts';
import { times } from './kernel.ts';

/** Bytes of a row's codes that one round of a tile takes: rows of codes are padded to whole rounds. */
export const ROUND = 16;

/**
 * One output vector from `sum`, which holds Σ scale · code · w: `scale(row) · sum − offset(row) · correction(column) + bias`,
 * where correction = Σ scale · w.
 */
export function finishInteger(
  f: FunctionBuilder,
  { bias, corrections, rowScales }: Record<'bias' | 'corrections' | 'rowScales', Variable<'i32'>>,
): { row(i: number): void; vector(j: number, sum: (scale: V128) => V128): V128 } {
  const [scale, offset] = f.localArray('v128', 2);
  return {
    row(i) {
      f.set(scale, v128.load32_splat(rowScales, 8 * i));
      f.set(offset, v128.load32_splat(rowScales, 8 * i + 4));
    },
    vector: (j, sum) =>
      f32x4.add(
        f32x4.sub(sum(scale), f32x4.mul(offset, v128.load(corrections, 16 * j))),
        v128.load(bias, 16 * j),
      ),
  };
}

/** Depth in steps of 4 bytes of activations: 4 codes, or 2 of 16 bits. */
export const int8Product: ProductFamily = {
  name: 'int8',
  most: (tiles) => tiles.int8,
  tile({ module, features }, name, rows) {
    const vectors = features.panel / 4;
    const wide = features.dot === 'i16';
    const outputs = rows * vectors;
    const splits = splitsOf(features, outputs);
    const stepBytes = (wide ? 8 : 16) * vectors;
    return module.func(`${name}_${rows}`, TILE, (f, p) => {
      const acc = f.localArray('v128', outputs * splits);
      const b = f.localArray('v128', vectors);
      const a = f.local('v128');
      const end = f.local('i32', i32.add(p.a, times(p.K, wide ? 2 : 1)));
      const row = rowPointers(f, p.a, rows, p.lda);
      for (const x of acc) f.set(x, v128.zero);
      const dot = integerDot(f, features);
      f.while(
        () => i32.lt_u(p.a, end),
        () => {
          for (let step = 0; step < ROUND / 4; step++) {
            for (let j = 0; j < vectors; j++)
              f.set(
                b[j],
                wide
                  ? v128.load8x8_s(p.b, step * stepBytes + 8 * j)
                  : v128.load(p.b, step * stepBytes + 16 * j),
              );
            for (let i = 0; i < rows; i++) {
              f.set(a, v128.load32_splat(row[i], 4 * step));
              for (let j = 0; j < vectors; j++) {
                const at = acc[(step % splits) * outputs + i * vectors + j];
                f.set(at, dot(b[j], a, at));
              }
            }
          }
          f.increment(p.b, (ROUND / 4) * stepBytes);
          for (const r of row) f.increment(r, ROUND);
        },
      );
      const finish = finishInteger(f, p);
      for (let i = 0; i < rows; i++) {
        finish.row(i);
        for (let j = 0; j < vectors; j++) {
          let sum: V128 = acc[i * vectors + j];
          for (let s = 1; s < splits; s++) sum = i32x4.add(sum, acc[s * outputs + i * vectors + j]);
          const product = (scale: V128) =>
            f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(sum), scale), v128.load(p.scales, 16 * j));
          f.emit(v128.store(p.c, finish.vector(j, product), 16 * j));
        }
        if (i < rows - 1) f.set(p.c, i32.add(p.c, p.ldc));
      }
    });
  },
};
