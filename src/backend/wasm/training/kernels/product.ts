import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../../instructions.ts';
import { type KernelContext, kernel, multiplyAdd, plus, times } from '../../kernels/kernel.ts';

/**
 * `c = a · b + start + bias` over part of the depth, by register tiles: a row-major, b in panels `[depth][panel]` of
 * its columns, a block of rows that stays in the second cache level. All three products of training are this one, on
 * operands laid out for it. A unit of work is one block of rows times one group of panels.
 */
const FIELDS = {
  a: 'i32',
  b: 'i32',
  c: 'i32',
  /** What c starts from: its rows are `ldStart` bytes apart, 0 for one row; `startStep` bytes a panel, 0 for zeros. */
  start: 'i32',
  ldStart: 'i32',
  startStep: 'i32',
  bias: 'i32',
  biasStep: 'i32',
  M: 'i32',
  /** Columns of a that are used, in bytes. */
  depth: 'i32',
  /** Bytes from one row of a, and of c, to the next. */
  lda: 'i32',
  ldc: 'i32',
  panels: 'i32',
  panelBytes: 'i32',
  /** Columns of the last panel that exist. */
  lastColumns: 'i32',
  /** Panels of one head and bytes between heads; one group where the output is not laid out by head. */
  panelsPerHead: 'i32',
  headBytes: 'i32',
  rowsPerBlock: 'i32',
  panelsPerUnit: 'i32',
  unitsPerBlock: 'i32',
} as const;

const TILE = {
  a: 'i32',
  b: 'i32',
  c: 'i32',
  start: 'i32',
  bias: 'i32',
  depth: 'i32',
  lda: 'i32',
  ldc: 'i32',
  ldStart: 'i32',
} as const;

const rowsFrom = (f: FunctionBuilder, first: Variable<'i32'>, rows: number, step: I32): Variable<'i32'>[] => {
  const out = [first];
  for (let i = 1; i < rows; i++) out.push(f.local('i32', i32.add(out[i - 1], step)));
  return out;
};

/** A tile of `rows` by one panel, in a function of its own: V8 allocates registers function by function. */
function tile({ module, features }: KernelContext, rows: number): number {
  const vectors = features.panel / 4;
  const madd = multiplyAdd(features);
  return module.func(`training_product_${rows}`, TILE, (f, p) => {
    const acc = f.localArray('v128', rows * vectors);
    const b = f.localArray('v128', vectors);
    const a = f.local('v128');
    const end = f.local('i32', i32.add(p.a, p.depth));
    const row = rowsFrom(f, p.a, rows, p.lda);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < vectors; j++)
        f.set(acc[i * vectors + j], f32x4.add(v128.load(p.start, 16 * j), v128.load(p.bias, 16 * j)));
      if (i < rows - 1) f.set(p.start, i32.add(p.start, p.ldStart));
    }
    f.while(
      () => i32.lt_u(p.a, end),
      () => {
        for (let j = 0; j < vectors; j++) f.set(b[j], v128.load(p.b, 16 * j));
        for (let i = 0; i < rows; i++) {
          f.set(a, v128.load32_splat(row[i]));
          for (let j = 0; j < vectors; j++) f.set(acc[i * vectors + j], madd(a, b[j], acc[i * vectors + j]));
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
}

/** The first `columns` floats of rows that a ragged tile wrote to scratch. */
function copyColumns({ module }: KernelContext): number {
  return module.func(
    'training_product_columns',
    { from: 'i32', step: 'i32', to: 'i32', ldc: 'i32', rows: 'i32', columns: 'i32' },
    (f, p) => {
      const i = f.local('i32');
      f.while(
        () => p.rows,
        () => {
          f.for(i, i32.const(0), times(p.columns, 4), 4, () =>
            f.emit(f32.store(i32.add(p.to, i), f32.load(i32.add(p.from, i)))),
          );
          f.set(p.from, i32.add(p.from, p.step));
          f.set(p.to, i32.add(p.to, p.ldc));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

/** Adds the function of the rows of one block against one panel: whole tiles, then one of what is left. */
export function panelFunction(context: KernelContext): number {
  const { module, features, tiles } = context;
  const most = tiles.float32;
  const byRows = Array.from({ length: most + 1 }, (_, r) => (r ? tile(context, r) : 0));
  const copy = copyColumns(context);
  return module.func(
    'training_product_panel',
    { ...TILE, rows: 'i32', columns: 'i32', scratch: 'i32' },
    (f, p) => {
      const ragged = f.local('i32', i32.lt_u(p.columns, i32.const(features.panel)));
      const step = f.local('i32', i32.select(i32.const(features.panel * 4), p.ldc, ragged));
      const run = (count: number) => {
        const to = i32.select(p.scratch, p.c, ragged);
        f.call(byRows[count], p.a, p.b, to, p.start, p.bias, p.depth, p.lda, step, p.ldStart);
        f.if(ragged, () => f.call(copy, p.scratch, step, p.c, p.ldc, i32.const(count), p.columns));
      };
      f.while(
        () => i32.ge_s(p.rows, i32.const(most)),
        () => {
          run(most);
          for (const [pointer, by] of [
            [p.a, p.lda],
            [p.c, p.ldc],
            [p.start, p.ldStart],
          ])
            f.set(pointer, i32.add(pointer, i32.mul(by, i32.const(most))));
          f.increment(p.rows, -most);
        },
      );
      for (let r = most - 1; r >= 1; r--) f.if(i32.eq(p.rows, i32.const(r)), () => run(r));
    },
  );
}

export const productKernel = kernel({
  name: 'training_product',
  fields: FIELDS,
  build(context, f, at, begin, end) {
    const { panel: width } = context.features;
    const panel = panelFunction(context);
    const [unit, p, last, m, rows, c] = f.localArray('i32', 6);
    f.for(unit, begin, end, 1, () => {
      f.set(m, i32.mul(i32.div_u(unit, at.unitsPerBlock), at.rowsPerBlock));
      f.set(rows, i32.min_s(at.rowsPerBlock, i32.sub(at.M, m)));
      f.set(p, i32.mul(i32.rem_u(unit, at.unitsPerBlock), at.panelsPerUnit));
      f.set(last, i32.min_s(i32.add(p, at.panelsPerUnit), at.panels));
      f.while(
        () => i32.lt_u(p, last),
        () => {
          const place = i32.add(
            i32.mul(i32.div_u(p, at.panelsPerHead), at.headBytes),
            i32.mul(i32.rem_u(p, at.panelsPerHead), i32.const(width * 4)),
          );
          f.set(c, i32.add(i32.mul(m, at.ldc), place));
          f.call(
            panel,
            i32.add(at.a, i32.mul(m, at.lda)),
            i32.add(at.b, i32.mul(p, at.panelBytes)),
            i32.add(at.c, c),
            // What starts from rows like c's is laid out like c.
            i32.add(at.start, i32.select(c, i32.mul(p, at.startStep), at.ldStart)),
            i32.add(at.bias, i32.mul(p, at.biasStep)),
            at.depth,
            at.lda,
            at.ldc,
            at.ldStart,
            rows,
            i32.select(at.lastColumns, i32.const(width), i32.eq(plus(p, 1), at.panels)),
            context.scratch(f),
          );
          f.increment(p, 1);
        },
      );
    });
  },
});
