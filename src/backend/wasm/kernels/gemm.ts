import type { Activation } from '../../../program/ops/activation.ts';
import type { Variable } from '../assembler.ts';
import { i32 } from '../instructions.ts';
import { panelFunction } from './gemm-panel.ts';
import type { ProductFamily } from './gemm-tile.ts';
import { kernel, plus, times } from './kernel.ts';

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

export function gemmKernel(family: ProductFamily, activation: Activation) {
  const name = `gemm_${family.name}_${activation}`;
  return kernel({
    name,
    fields: FIELDS,
    build(context, f, at: At, begin, end) {
      const panel = panelFunction(context, name, family, activation);
      const columnBytes = context.features.panel * 4;
      const { tiles } = context;
      const [unit, p, last, m, rows, c, column, count, tall, short, opening, most] = f.localArray('i32', 12);
      const residual = f.local('i32', i32.const(0));
      f.set(most, i32.const(family.most(tiles)));
      f.for(unit, begin, end, 1, () => {
        f.set(m, i32.mul(i32.div_u(unit, at.unitsPerBlock), at.rowsPerBlock));
        f.set(rows, i32.min_s(at.rowsPerBlock, i32.sub(at.M, m)));
        if (family.opened) {
          const [stored, opened] = [family.most(tiles), family.opened.most(tiles)];
          f.set(opening, i32.gt_u(rows, i32.const(stored)));
          f.set(most, i32.select(i32.const(opened), i32.const(stored), opening));
        }
        // Tiles of rows as equal as may be: a small one at the end would cost nearly as much as a large one.
        f.set(short, i32.div_u(i32.add(rows, plus(most, -1)), most));
        f.set(count, i32.div_u(rows, short));
        f.set(tall, i32.sub(rows, i32.mul(count, short)));
        f.set(short, i32.sub(short, tall));
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
              at.ldc,
              tall,
              short,
              count,
              opening,
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
