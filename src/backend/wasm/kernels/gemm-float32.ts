import { i32, v128 } from '../instructions.ts';
import { type ProductFamily, rowPointers, TILE } from './gemm.ts';
import { multiplyAdd, times } from './kernel.ts';

export const float32Product: ProductFamily = {
  name: 'float32',
  most: (tiles) => tiles.float32,
  tile({ module, features }, name, rows) {
    const vectors = features.panel / 4;
    const madd = multiplyAdd(features);
    return module.func(`${name}_${rows}`, TILE, (f, p) => {
      const acc = f.localArray('v128', rows * vectors);
      const b = f.localArray('v128', vectors);
      const a = f.local('v128');
      const end = f.local('i32', i32.add(p.a, times(p.K, 4)));
      const row = rowPointers(f, p.a, rows, p.lda);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < vectors; j++) f.set(acc[i * vectors + j], v128.load(p.bias, 16 * j));
      f.while(
        () => i32.lt_u(p.a, end),
        () => {
          for (let j = 0; j < vectors; j++) f.set(b[j], v128.load(p.b, 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(a, v128.load32_splat(row[i]));
            for (let j = 0; j < vectors; j++)
              f.set(acc[i * vectors + j], madd(a, b[j], acc[i * vectors + j]));
          }
          f.increment(p.b, 16 * vectors);
          for (const r of row) f.increment(r, 4);
        },
      );
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < vectors; j++) f.emit(v128.store(p.c, acc[i * vectors + j], 16 * j));
        if (i < rows - 1) f.set(p.c, i32.add(p.c, p.ldc));
      }
    });
  },
};
