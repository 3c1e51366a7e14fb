import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32, v128 } from '../instructions.ts';
import { type KernelContext, multiplyAdd, times } from './kernel.ts';

/** Columns of one tile, in bytes. */
export const PANEL_BYTES = 32;

/**
 * `o += a · b` for `rows` rows of a (`lda` bytes apart) and 8 columns of b and o, whose rows are `pitch` floats apart;
 * `depth` bytes of a row of a.
 */
function productTile({ module, features }: KernelContext, name: string, pitch: number, rows: number): number {
  const madd = multiplyAdd(features);
  return module.func(
    `${name}_tile_${pitch}_${rows}`,
    { a: 'i32', lda: 'i32', b: 'i32', o: 'i32', depth: 'i32' },
    (f, p) => {
      const acc = f.localArray('v128', rows * 2);
      const right = f.localArray('v128', 2);
      const left = f.local('v128');
      const end = f.local('i32', i32.add(p.a, p.depth));
      const row = [p.a];
      for (let i = 1; i < rows; i++) row.push(f.local('i32', i32.add(row[i - 1], p.lda)));
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], v128.load(p.o, i * pitch * 4 + 16 * j));
      f.while(
        () => i32.lt_u(p.a, end),
        () => {
          for (let j = 0; j < 2; j++) f.set(right[j], v128.load(p.b, 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(left, v128.load32_splat(row[i]));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(left, right[j], acc[2 * i + j]));
          }
          f.increment(p.b, pitch * 4);
          for (const r of row) f.increment(r, 4);
        },
      );
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < 2; j++) f.emit(v128.store(p.o, acc[2 * i + j], i * pitch * 4 + 16 * j));
    },
  );
}

/** Adds `o += a · b` to the module for `pitch` columns and any number of rows; gives its index, for `call`. */
export function productFunction(context: KernelContext, name: string, pitch: number): number {
  const most = context.tiles.float32;
  const tiles = Array.from({ length: most + 1 }, (_, r) => (r ? productTile(context, name, pitch, r) : 0));
  return context.module.func(
    `${name}_product_${pitch}`,
    { a: 'i32', lda: 'i32', b: 'i32', o: 'i32', depth: 'i32', rows: 'i32' },
    (f, p) => {
      const [i, a, o] = f.localArray('i32', 3);
      const column = f.local('i32');
      const tile = (count: number) => f.call(tiles[count], a, p.lda, i32.add(p.b, column), o, p.depth);
      f.for(column, i32.const(0), i32.const(pitch * 4), PANEL_BYTES, () => {
        f.set(a, p.a);
        f.set(o, i32.add(p.o, column));
        f.set(i, p.rows);
        f.while(
          () => i32.ge_s(i, i32.const(most)),
          () => {
            tile(most);
            f.set(a, i32.add(a, i32.mul(p.lda, i32.const(most))));
            f.increment(o, pitch * 4 * most);
            f.increment(i, -most);
          },
        );
        for (let r = 1; r < most; r++) f.if(i32.eq(i, i32.const(r)), () => tile(r));
      });
    },
  );
}

/** Sets `bytes` bytes from `from` on to 0: a multiple of 16. */
export function clear(f: FunctionBuilder, index: Variable<'i32'>, from: I32, bytes: I32): void {
  f.for(index, i32.const(0), bytes, 16, () => f.emit(v128.store(i32.add(from, index), v128.zero)));
}

/** Rows of sequence `b` that exist: `lengths[b]`, at least 0 and at most N. */
export const existing = (lengths: I32, b: I32, N: I32): I32 =>
  i32.max_s(i32.min_s(i32.load(i32.add(lengths, times(b, 4))), N), i32.const(0));
