import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { eachTile, type ProductFamily, rowPointers, TILE } from './gemm-tile.ts';
import { integerDot, splitsOf } from './integer-dot.ts';
import { type Features, multiplyAdd, times } from './kernel.ts';

/** Codes of a row that one round of a tile takes: rows of codes are padded to whole rounds. */
export const ROUND = 16;

/**
 * `scale(row) · product − offset(row) · correction(column) + bias` for every output of a tile, where correction =
 * Σ scale · w. `product(i, j, scale)` is to give the first term; `columns(j)` comes before the rows of a vector.
 */
export function finishInteger(
  f: FunctionBuilder,
  features: Features,
  p: Record<'c' | 'ldc' | 'bias' | 'corrections' | 'rowScales', Variable<'i32'>>,
  rows: number,
  columns: (j: number) => void,
  product: (i: number, j: number, scale: V128, plus: V128, at: I32) => V128,
): void {
  const [correction, bias, scale] = f.localArray('v128', 3);
  const to = rowPointers(f, p.c, rows, p.ldc);
  const madd = multiplyAdd(features);
  for (let j = 0; j < features.panel / 4; j++) {
    columns(j);
    f.set(correction, f32x4.mul(v128.load(p.corrections, 16 * j), f.constant(-1)));
    f.set(bias, v128.load(p.bias, 16 * j));
    for (let i = 0; i < rows; i++) {
      f.set(scale, v128.load32_splat(p.rowScales, 8 * i));
      const rest = madd(v128.load32_splat(p.rowScales, 8 * i + 4), correction, bias);
      f.emit(v128.store(to[i], product(i, j, scale, rest, to[i]), 16 * j));
    }
  }
}

/** Depth in steps of 4 bytes of activations: 4 codes, or 2 of 16 bits. */
export const int8Product: ProductFamily = {
  name: 'int8',
  most: (tiles) => tiles.int8,
  tile({ module, features }, name, rows, finish) {
    const vectors = features.panel / 4;
    const wide = features.dot === 'i16';
    const outputs = rows * vectors;
    const splits = splitsOf(features, outputs);
    const stepBytes = (wide ? 8 : 16) * vectors;
    const roundBytes = ROUND * (wide ? 2 : 1);
    return module.func(`${name}_${rows}`, TILE, (f, p) => {
      const acc = f.localArray('v128', outputs * splits);
      const b = f.localArray('v128', vectors);
      const a = f.local('v128');
      const dot = integerDot(f, features);
      const madd = multiplyAdd(features);
      eachTile(f, p, rows, finish, () => {
        const from = f.local('i32', p.b);
        const row = rowPointers(f, f.local('i32', p.a), rows, p.lda);
        const end = f.local('i32', i32.add(p.a, times(p.K, wide ? 2 : 1)));
        for (const x of acc) f.set(x, v128.zero);
        f.while(
          () => i32.lt_u(row[0], end),
          () => {
            for (let step = 0; step < roundBytes / 4; step++) {
              for (let j = 0; j < vectors; j++)
                f.set(
                  b[j],
                  wide
                    ? v128.load8x8_s(from, step * stepBytes + 8 * j)
                    : v128.load(from, step * stepBytes + 16 * j),
                );
              for (let i = 0; i < rows; i++) {
                f.set(a, v128.load32_splat(row[i], 4 * step));
                for (let j = 0; j < vectors; j++) {
                  const at = acc[(step % splits) * outputs + i * vectors + j];
                  f.set(at, dot(b[j], a, at));
                }
              }
            }
            f.increment(from, (roundBytes / 4) * stepBytes);
            for (const r of row) f.increment(r, roundBytes);
          },
        );
        finishInteger(
          f,
          features,
          p,
          rows,
          (j) => f.set(b[0], v128.load(p.scales, 16 * j)),
          (i, j, scale, rest) => {
            let sum: V128 = acc[i * vectors + j];
            for (let s = 1; s < splits; s++) sum = i32x4.add(sum, acc[s * outputs + i * vectors + j]);
            return madd(f32x4.mul(f32x4.convert_i32x4_s(sum), scale), b[0], rest);
          },
        );
      });
    });
  },
};
