import { i32, v128 } from '../instructions.ts';
import { eachTile, type ProductFamily, rowPointers, TILE } from './gemm-tile.ts';
import { multiplyAdd, times } from './kernel.ts';

export const float32Product: ProductFamily = {
  name: 'float32',
  most: (tiles) => tiles.float32,
  tile({ module, features }, name, rows, finish) {
    const vectors = features.panel / 4;
    const madd = multiplyAdd(features);
    return module.func(`${name}_${rows}`, TILE, (f, p) => {
      const acc = f.localArray('v128', rows * vectors);
      const b = f.localArray('v128', vectors);
      const a = f.local('v128');
      eachTile(f, p, rows, finish, () => {
        const from = f.local('i32', p.b);
        const row = rowPointers(f, f.local('i32', p.a), rows, p.lda);
        const to = f.local('i32', p.c);
        const end = f.local('i32', i32.add(p.a, times(p.K, 4)));
        for (let i = 0; i < rows; i++)
          for (let j = 0; j < vectors; j++) f.set(acc[i * vectors + j], v128.load(p.bias, 16 * j));
        f.while(
          () => i32.lt_u(row[0], end),
          () => {
            for (let j = 0; j < vectors; j++) f.set(b[j], v128.load(from, 16 * j));
            for (let i = 0; i < rows; i++) {
              f.set(a, v128.load32_splat(row[i]));
              for (let j = 0; j < vectors; j++)
                f.set(acc[i * vectors + j], madd(a, b[j], acc[i * vectors + j]));
            }
            f.increment(from, 16 * vectors);
            for (const r of row) f.increment(r, 4);
          },
        );
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < vectors; j++) f.emit(v128.store(to, acc[i * vectors + j], 16 * j));
          if (i < rows - 1) f.set(to, i32.add(to, p.ldc));
        }
      });
    });
  },
};
