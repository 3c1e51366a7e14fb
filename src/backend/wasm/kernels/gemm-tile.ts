import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32 } from '../instructions.ts';
import type { KernelContext, Tiles } from './kernel.ts';

/**
 * What a function of tiles reads: of the first row of the first tile, and of the panel's first column. `tiles` of them
 * stand one below the other.
 */
export const TILE = {
  a: 'i32',
  b: 'i32',
  c: 'i32',
  K: 'i32',
  lda: 'i32',
  ldc: 'i32',
  bias: 'i32',
  scales: 'i32',
  corrections: 'i32',
  rowScales: 'i32',
  group: 'i32',
  residual: 'i32',
  /** Bytes from one row of the residual to the next. */
  ldr: 'i32',
  tiles: 'i32',
} as const;
export type TileParameters = { [K in keyof typeof TILE]: Variable<'i32'> };

/** How weights of one kind of storage are multiplied. */
export interface ProductFamily {
  /** Part of the kernels' names. */
  readonly name: string;
  /** Rows of the largest tile. */
  most(tiles: Tiles): number;
  /**
   * Adds a function of tiles of `rows` by one panel (V8 allocates registers function by function); gives its index.
   * `finish` adds what comes after a tile: see `eachTile`.
   */
  tile(context: KernelContext, name: string, rows: number, finish: Finish): number;
  /** For more rows than `most`: a panel that is first opened, in scratch, and tiles that read it there. */
  readonly opened?: {
    most(tiles: Tiles): number;
    /** Parameters: the panel, where to, K, scales, group. */
    open(context: KernelContext, name: string): number;
    tile: ProductFamily['tile'];
  };
}

/** Adds activation and residual of a tile just written, still in the first cache level. */
export type Finish = (f: FunctionBuilder, p: TileParameters, rows: number) => void;

/** Walks the tiles: `body` computes one, from `p.a` into `p.c`, and leaves the parameters as they are. */
export function eachTile(
  f: FunctionBuilder,
  p: TileParameters,
  rows: number,
  finish: Finish,
  body: () => void,
): void {
  f.doWhile(
    () => {
      body();
      finish(f, p, rows);
      f.set(p.a, i32.add(p.a, i32.mul(p.lda, i32.const(rows))));
      f.set(p.c, i32.add(p.c, i32.mul(p.ldc, i32.const(rows))));
      f.increment(p.rowScales, 8 * rows);
      f.increment(p.tiles, -1);
    },
    () => p.tiles,
  );
}

/** Bytes of scratch for a tile of a ragged panel; an opened panel stands behind them. */
export const RAGGED_TILE = 16 * 16 * 4;

export const rowPointers = (
  f: FunctionBuilder,
  first: Variable<'i32'>,
  rows: number,
  step: I32,
): Variable<'i32'>[] => {
  const out = [first];
  for (let i = 1; i < rows; i++) out.push(f.local('i32', i32.add(out[i - 1], step)));
  return out;
};
