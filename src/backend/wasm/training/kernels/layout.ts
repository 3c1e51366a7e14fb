import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32x4, type I32, i32, type V128, v128 } from '../../instructions.ts';
import { type KernelContext, kernel, reduce, times } from '../../kernels/kernel.ts';

// How the operands of a product are laid out for it. None of these costs more than a few hundredths of the product.

/** Columns `lanes` of 4 of pairs of vectors: the two steps of a 4 × 4 transposition. */
const [LOW, HIGH] = [
  [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23],
  [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31],
];
const [FIRST, SECOND] = [
  [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23],
  [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31],
];

/** Four rows of four as four columns. */
export function transposed(f: FunctionBuilder, rows: readonly V128[]): V128[] {
  const [a, b, c, d] = rows.map((x) => f.local('v128', x));
  const [ab, AB, cd, CD] = [
    v128.shuffle(a, b, LOW),
    v128.shuffle(a, b, HIGH),
    v128.shuffle(c, d, LOW),
    v128.shuffle(c, d, HIGH),
  ].map((x) => f.local('v128', x));
  return [
    v128.shuffle(ab, cd, FIRST),
    v128.shuffle(ab, cd, SECOND),
    v128.shuffle(AB, CD, FIRST),
    v128.shuffle(AB, CD, SECOND),
  ];
}

/** Puts the columns that `row` points at into a panel `[K][panel]` at `to`: all of K, rounded up to 4; moves both. */
function packPanel(
  f: FunctionBuilder,
  panel: number,
  row: readonly Variable<'i32'>[],
  to: Variable<'i32'>,
  k: Variable<'i32'>,
  K: I32,
): void {
  f.for(k, i32.const(0), K, 4, () => {
    for (let group = 0; group < panel; group += 4) {
      const columns = transposed(
        f,
        [0, 1, 2, 3].map((i) => v128.load(row[group + i])),
      );
      for (const [i, x] of columns.entries()) f.emit(v128.store(to, x, (i * panel + group) * 4));
    }
    for (const r of row) f.increment(r, 16);
    f.increment(to, panel * 16);
  });
}

/**
 * Adds a function: rows as columns, in panels `[K][panel]` of the rows of `from`, `ld` bytes apart. The last panel
 * repeats the last row.
 */
export function packRowsFunction({ module, features: { panel } }: KernelContext): number {
  return module.func(
    'training_rows',
    { from: 'i32', ld: 'i32', rows: 'i32', K: 'i32', to: 'i32', panelBytes: 'i32' },
    (f, p) => {
      const [n, k, to, last] = f.localArray('i32', 4);
      const row = f.localArray('i32', panel);
      f.set(last, i32.sub(p.rows, i32.const(1)));
      f.for(n, i32.const(0), p.rows, panel, () => {
        for (const [i, r] of row.entries())
          f.set(r, i32.add(p.from, i32.mul(i32.min_s(i32.add(n, i32.const(i)), last), p.ld)));
        f.set(to, p.to);
        packPanel(f, panel, row, to, k, p.K);
        f.set(p.to, i32.add(p.to, p.panelBytes));
      });
    },
  );
}

/**
 * Rows as columns: panel p `[K][panel]` of the rows at `rows[p · panel …]`, addresses less `base`; and the biases at
 * `biases`, likewise, one after another. K is rounded up to 4. A unit is one panel.
 */
export const packRowsKernel = kernel({
  name: 'training_pack_rows',
  fields: { base: 'i32', rows: 'i32', biases: 'i32', to: 'i32', bias: 'i32', K: 'i32', panelBytes: 'i32' },
  build({ features: { panel } }, f, at, begin, end) {
    const [p, k, to, list] = f.localArray('i32', 4);
    const row = f.localArray('i32', panel);
    f.for(p, begin, end, 1, () => {
      f.set(list, i32.mul(p, i32.const(panel * 4)));
      for (let i = 0; i < panel; i++)
        f.set(row[i], i32.add(at.base, i32.load(i32.add(at.rows, list), 4 * i)));
      f.set(to, i32.add(at.to, i32.mul(p, at.panelBytes)));
      packPanel(f, panel, row, to, k, at.K);
      f.if(at.biases, () => {
        for (let i = 0; i < panel; i++)
          f.emit(
            i32.store(i32.add(at.bias, list), i32.load(i32.load(i32.add(at.biases, list), 4 * i)), 4 * i),
          );
      });
    });
  },
});

const ROWS = 16;

/**
 * Adds a function: rows as they are into panels `[depth][panel]` of the columns of `from`, whose rows are `ld` bytes
 * apart; row 0 goes to the depth that `to` points at.
 */
export function packColumnsFunction({ module, features: { panel } }: KernelContext): number {
  return module.func(
    'training_columns',
    { from: 'i32', ld: 'i32', rows: 'i32', panels: 'i32', to: 'i32', panelBytes: 'i32' },
    (f, p) => {
      const [i, r, from, to] = f.localArray('i32', 4);
      f.for(i, i32.const(0), p.panels, 1, () => {
        f.set(from, i32.add(p.from, i32.mul(i, i32.const(panel * 4))));
        f.set(to, i32.add(p.to, i32.mul(i, p.panelBytes)));
        f.for(r, i32.const(0), p.rows, 1, () => {
          for (let j = 0; j < panel * 4; j += 16) f.emit(v128.store(to, v128.load(from, j), j));
          f.set(from, i32.add(from, p.ld));
          f.increment(to, panel * 4);
        });
      });
    },
  );
}

/**
 * Rows as they are: panels `[depth][panel]` of the columns of `from`, whose rows are `ld` bytes apart; row 0 goes to
 * depth `first`. A unit is 16 rows.
 */
export const packColumnsKernel = kernel({
  name: 'training_pack_columns',
  fields: { from: 'i32', ld: 'i32', rows: 'i32', panels: 'i32', to: 'i32', first: 'i32', panelBytes: 'i32' },
  build(context, f, at, begin, end) {
    const pack = packColumnsFunction(context);
    const [unit, row] = f.localArray('i32', 2);
    f.for(unit, begin, end, 1, () => {
      f.set(row, times(unit, ROWS));
      f.call(
        pack,
        i32.add(at.from, i32.mul(row, at.ld)),
        at.ld,
        i32.min_s(i32.const(ROWS), i32.sub(at.rows, row)),
        at.panels,
        i32.add(at.to, i32.mul(i32.add(at.first, row), i32.const(context.features.panel * 4))),
        at.panelBytes,
      );
    });
  },
});
export const PACKED_ROWS = ROWS;

const COLUMNS = 16;

/** Adds a function: 16 columns as rows, `to[n][m] = from[m][n]`, m rounded up to 4. */
export function transposeFunction({ module }: KernelContext): number {
  return module.func(
    'training_transposed',
    { from: 'i32', ld: 'i32', rows: 'i32', to: 'i32', ldTo: 'i32' },
    (f, p) => {
      const [m, target] = f.localArray('i32', 2);
      const row = f.localArray('i32', 4);
      f.for(m, i32.const(0), p.rows, 4, () => {
        for (const [i, r] of row.entries()) f.set(r, i ? i32.add(row[i - 1], p.ld) : p.from);
        f.set(target, p.to);
        for (let group = 0; group < COLUMNS; group += 4) {
          const columns = transposed(
            f,
            row.map((r) => v128.load(r, 4 * group)),
          );
          for (const x of columns) {
            f.emit(v128.store(target, x));
            f.set(target, i32.add(target, p.ldTo));
          }
        }
        f.set(p.from, i32.add(p.from, times(p.ld, 4)));
        f.increment(p.to, 16);
      });
    },
  );
}

/**
 * Columns as rows: `to[n][m] = from[m][n]`, rows of `to` `ldTo` bytes apart; m is rounded up to 4 and n to 16. `from`
 * may be laid out by head: 16 columns lie in one head. A unit is 16 columns.
 */
export const transposeKernel = kernel({
  name: 'training_transpose',
  fields: {
    from: 'i32',
    ld: 'i32',
    rows: 'i32',
    to: 'i32',
    ldTo: 'i32',
    unitsPerHead: 'i32',
    headBytes: 'i32',
    /** Rows of `to` that one head takes. */
    headRows: 'i32',
  },
  build(context, f, at, begin, end) {
    const transpose = transposeFunction(context);
    const [unit, head, column] = f.localArray('i32', 3);
    f.for(unit, begin, end, 1, () => {
      f.set(head, i32.div_u(unit, at.unitsPerHead));
      f.set(column, times(i32.rem_u(unit, at.unitsPerHead), COLUMNS));
      f.call(
        transpose,
        i32.add(i32.add(at.from, i32.mul(head, at.headBytes)), times(column, 4)),
        at.ld,
        at.rows,
        i32.add(at.to, i32.mul(i32.add(i32.mul(head, at.headRows), column), at.ldTo)),
        at.ldTo,
      );
    });
  },
});
export const TRANSPOSED_COLUMNS = COLUMNS;

/** `sums[n] += Σ rows[n][m]`, rows `ld` bytes apart of `count` floats. A unit is one row. */
export const addRowSumsKernel = kernel({
  name: 'training_row_sums',
  fields: { rows: 'i32', ld: 'i32', count: 'i32', sums: 'i32' },
  build(_context, f, at, begin, end) {
    const [n, x, last, to] = f.localArray('i32', 4);
    const sums = f.localArray('v128', 2);
    f.for(n, begin, end, 1, () => {
      f.set(x, i32.add(at.rows, i32.mul(n, at.ld)));
      f.set(last, i32.add(x, times(i32.and(at.count, i32.const(-8)), 4)));
      for (const s of sums) f.set(s, v128.zero);
      f.while(
        () => i32.lt_u(x, last),
        () => {
          for (const [i, s] of sums.entries()) f.set(s, f32x4.add(s, v128.load(x, 16 * i)));
          f.increment(x, 32);
        },
      );
      reduce(f, sums, f32x4.add);
      f.set(last, i32.add(x, times(i32.and(at.count, i32.const(7)), 4)));
      f.while(
        () => i32.lt_u(x, last),
        () => {
          f.set(sums[0], f32x4.add(sums[0], v128.load32_splat(x)));
          f.increment(x, 4);
        },
      );
      f.set(to, i32.add(at.sums, times(n, 4)));
      f.emit(v128.store32_lane(to, f32x4.add(sums[0], v128.load32_splat(to)), 0));
    });
  },
});

/** Rows by head `[H, M, pitch]` as rows `[M, H · size]`. A unit is one row of one head. */
export const joinHeadsKernel = kernel({
  name: 'training_join_heads',
  fields: { from: 'i32', to: 'i32', M: 'i32', H: 'i32', size: 'i32', pitch: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, from, to, i] = f.localArray('i32', 4);
    f.for(unit, begin, end, 1, () => {
      const [m, h]: [I32, I32] = [i32.div_u(unit, at.H), i32.rem_u(unit, at.H)];
      f.set(from, i32.add(at.from, times(i32.mul(i32.add(i32.mul(h, at.M), m), at.pitch), 4)));
      f.set(to, i32.add(at.to, times(i32.mul(i32.add(i32.mul(m, at.H), h), at.size), 4)));
      copy(f, i, from, to, times(at.size, 4));
    });
  },
});

/** Copies `bytes`, a multiple of 4. */
function copy(
  f: FunctionBuilder,
  i: Variable<'i32'>,
  from: Variable<'i32'>,
  to: Variable<'i32'>,
  bytes: I32,
): void {
  const whole = f.local('i32');
  const end = f.local('i32');
  f.set(end, bytes);
  f.set(whole, i32.and(end, i32.const(-16)));
  f.for(i, i32.const(0), whole, 16, () => f.emit(v128.store(i32.add(to, i), v128.load(i32.add(from, i)))));
  f.while(
    () => i32.lt_u(i, end),
    () => {
      f.emit(i32.store(i32.add(to, i), i32.load(i32.add(from, i))));
      f.increment(i, 4);
    },
  );
}
