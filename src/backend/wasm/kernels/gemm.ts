import type { Activation } from '../../../program/ops/activation.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import { type KernelContext, kernel, plus, type Tiles, times } from './kernel.ts';
import { activate } from './math.ts';

/**
 * `y = activation(x Wᵀ + b) + residual` by register tiles: panels of W's columns, blocks of rows that stay in the
 * second cache level. A unit of work is one block of rows times one group of panels.
 */
const FIELDS = {
  a: 'i32',
  rowScales: 'i32',
  w: 'i32',
  scales: 'i32',
  corrections: 'i32',
  bias: 'i32',
  c: 'i32',
  residual: 'i32',
  M: 'i32',
  K: 'i32',
  /** Bytes from one row of a, and of c, to the next. */
  lda: 'i32',
  ldc: 'i32',
  panels: 'i32',
  panelBytes: 'i32',
  /** Bytes from the scales of one panel to those of the next. */
  scaleStep: 'i32',
  /** Bytes of a row of a that share a scale. */
  group: 'i32',
  /** Columns of the last panel that exist. */
  lastColumns: 'i32',
  /** Panels of one head and bytes between heads; one group where the output is not laid out by head. */
  panelsPerHead: 'i32',
  headBytes: 'i32',
  rowsPerBlock: 'i32',
  panelsPerUnit: 'i32',
  unitsPerBlock: 'i32',
} as const;
type At = { [K in keyof typeof FIELDS]: Variable<'i32'> };

/** What a tile reads: `a` to `ldc` of its first row, the rest of its first column. */
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
} as const;

/** How weights of one kind of storage are multiplied. */
export interface ProductFamily {
  /** Part of the kernels' names. */
  readonly name: string;
  /** Rows of the largest tile. */
  most(tiles: Tiles): number;
  /** Adds a tile of `rows` by one panel, in a function of its own (V8 allocates registers function by function); gives its index. */
  tile(context: KernelContext, name: string, rows: number): number;
  /** For more rows than `most`: a panel that is first opened, in scratch, and tiles that read it there. */
  readonly opened?: {
    most(tiles: Tiles): number;
    /** Parameters: the panel, where to, K, scales, group. */
    open(context: KernelContext, name: string): number;
    tile(context: KernelContext, name: string, rows: number): number;
  };
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

/** Activation and residual of a tile just written, still in the first cache level. */
function epilogue({ module, features }: KernelContext, name: string, activation: Activation): number {
  return module.func(
    `${name}_epilogue`,
    { c: 'i32', ldc: 'i32', residual: 'i32', ldr: 'i32', rows: 'i32' },
    (f, p) => {
      f.while(
        () => p.rows,
        () => {
          for (let j = 0; j < features.panel / 4; j++) {
            const y = f.local('v128', activate(f, features, activation, v128.load(p.c, 16 * j)));
            f.if(p.residual, () => f.set(y, f32x4.add(y, v128.load(p.residual, 16 * j))));
            f.emit(v128.store(p.c, y, 16 * j));
          }
          f.set(p.c, i32.add(p.c, p.ldc));
          f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, p.ldr)));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

function copyColumns({ module }: KernelContext, name: string): number {
  return module.func(
    `${name}_columns`,
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

/**
 * The rows of one block against one panel, in tiles of rows as equal as may be: a small tile at the end would cost
 * nearly as much as a large one.
 */
function panelFunction(
  context: KernelContext,
  name: string,
  family: ProductFamily,
  activation: Activation,
): number {
  const { module, features, tiles } = context;
  const { opened } = family;
  const sets = [family, ...(opened ? [opened] : [])].map((set, i) => {
    const most = set.most(tiles);
    const byRows = Array.from({ length: most }, (_, r) =>
      set.tile(context, `${name}${i ? '_opened' : ''}`, r + 1),
    );
    return { most, byRows };
  });
  const open = opened?.open(context, name);
  const finish = epilogue(context, name, activation);
  const copy = copyColumns(context, name);
  const panelBytes = features.panel * 4;
  return module.func(
    `${name}_panel`,
    { ...TILE, residual: 'i32', rows: 'i32', columns: 'i32', scratch: 'i32' },
    (f, p) => {
      const [target, step, left, count, inScratch] = f.localArray('i32', 5);
      const ragged = f.local('i32', i32.lt_u(p.columns, i32.const(features.panel)));
      const [c, rows, residual] = [f.local('i32', p.c), f.local('i32', p.rows), f.local('i32', p.residual)];
      const finishing = f.local(
        'i32',
        activation === 'none' ? i32.ne(p.residual, i32.const(0)) : i32.const(1),
      );
      f.set(step, i32.select(i32.const(panelBytes), p.ldc, ragged));
      const inTilesOf = (most: number) => i32.div_u(plus(p.rows, most - 1), i32.const(most));
      f.set(left, inTilesOf(sets[0].most));
      const opening = open === undefined ? null : f.local('i32', i32.gt_u(p.rows, i32.const(sets[0].most)));
      if (opening)
        f.if(opening, () => {
          f.set(left, inTilesOf(sets[1].most));
          f.set(inScratch, plus(p.scratch, RAGGED_TILE));
          f.call(open!, p.b, inScratch, p.K, p.scales, p.group);
          f.set(p.b, inScratch);
        });
      f.while(
        () => left,
        () => {
          f.set(count, i32.div_u(i32.add(p.rows, plus(left, -1)), left));
          f.set(target, i32.select(p.scratch, p.c, ragged));
          const call = (byRows: readonly number[]) => {
            byRows.forEach((tile, r) => {
              f.if(i32.eq(count, i32.const(r + 1)), () =>
                f.call(
                  tile,
                  p.a,
                  p.b,
                  target,
                  p.K,
                  p.lda,
                  step,
                  p.bias,
                  p.scales,
                  p.corrections,
                  p.rowScales,
                  p.group,
                ),
              );
            });
          };
          if (opening)
            f.if(
              opening,
              () => call(sets[1].byRows),
              () => call(sets[0].byRows),
            );
          else call(sets[0].byRows);
          // A ragged panel is finished and copied tile by tile; any other at the end, while it is still in cache.
          f.if(ragged, () => {
            f.if(finishing, () => f.call(finish, target, step, p.residual, p.ldc, count));
            f.call(copy, p.scratch, step, p.c, p.ldc, count, p.columns);
          });
          f.set(p.a, i32.add(p.a, i32.mul(p.lda, count)));
          f.set(p.c, i32.add(p.c, i32.mul(p.ldc, count)));
          f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, i32.mul(p.ldc, count))));
          f.set(p.rowScales, i32.add(p.rowScales, times(count, 8)));
          f.set(p.rows, i32.sub(p.rows, count));
          f.increment(left, -1);
        },
      );
      f.if(i32.and(finishing, i32.eqz(ragged)), () => f.call(finish, c, p.ldc, residual, p.ldc, rows));
    },
  );
}

export function gemmKernel(family: ProductFamily, activation: Activation) {
  const name = `gemm_${family.name}_${activation}`;
  return kernel({
    name,
    fields: FIELDS,
    build(context, f, at: At, begin, end) {
      const panel = panelFunction(context, name, family, activation);
      const columnBytes = context.features.panel * 4;
      const unit = f.local('i32');
      const p = f.local('i32');
      const last = f.local('i32');
      const m = f.local('i32');
      const rows = f.local('i32');
      const c = f.local('i32');
      const residual = f.local('i32', i32.const(0));
      const column = f.local('i32');
      f.for(unit, begin, end, 1, () => {
        f.set(m, i32.mul(i32.div_u(unit, at.unitsPerBlock), at.rowsPerBlock));
        f.set(rows, i32.min_s(at.rowsPerBlock, i32.sub(at.M, m)));
        f.set(p, i32.mul(i32.rem_u(unit, at.unitsPerBlock), at.panelsPerUnit));
        f.set(last, i32.min_s(i32.add(p, at.panelsPerUnit), at.panels));
        f.while(
          () => i32.lt_u(p, last),
          () => {
            f.set(column, i32.mul(p, i32.const(columnBytes)));
            const place = i32.add(
              i32.mul(i32.div_u(p, at.panelsPerHead), at.headBytes),
              i32.mul(i32.rem_u(p, at.panelsPerHead), i32.const(columnBytes)),
            );
            f.set(c, i32.add(i32.mul(m, at.ldc), place));
            f.if(at.residual, () => f.set(residual, i32.add(at.residual, c)));
            f.call(
              panel,
              i32.add(at.a, i32.mul(m, at.lda)),
              i32.add(at.w, i32.mul(p, at.panelBytes)),
              i32.add(at.c, c),
              at.K,
              at.lda,
              at.ldc,
              i32.add(at.bias, column),
              i32.add(at.scales, i32.mul(p, at.scaleStep)),
              i32.add(at.corrections, column),
              i32.add(at.rowScales, times(m, 8)),
              at.group,
              residual,
              rows,
              i32.select(at.lastColumns, i32.const(context.features.panel), i32.eq(plus(p, 1), at.panels)),
              context.scratch(f),
            );
            f.increment(p, 1);
          },
        );
      });
    },
  });
}
