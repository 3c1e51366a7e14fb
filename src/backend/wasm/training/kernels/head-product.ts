import type { ProductForm } from '../../../../program/gradient/matrix-product.ts';
import { i32 } from '../../instructions.ts';
import { type Kernel, kernel, plus, times } from '../../kernels/kernel.ts';
import { packColumnsFunction, packRowsFunction, TRANSPOSED_COLUMNS, transposeFunction } from './layout.ts';
import { panelFunction } from './product.ts';

/** Depth of one pass, and rows of a that are exchanged with columns at a time. */
const DEPTH = 512;
export const ROW_BLOCK = 64;
/** Bytes between rows that were columns: not a power of two. */
const EXCHANGED = (DEPTH + 16) * 4;
const RAGGED = 1024;

/** Bytes of scratch that one thread needs. */
export const headProductScratch = (columns: number, panel: number): number =>
  RAGGED + ROW_BLOCK * EXCHANGED + (Math.ceil(columns / panel) + 1) * panel * DEPTH * 4;

/**
 * Products of matrices that belong to heads and sequences. A unit is one result, or 64 rows of one where results are
 * sums; it adds the products of `innerHeads · innerBatches` pairs of operands, one after another.
 */
export const headProductKernel = (form: ProductForm): Kernel =>
  kernel({
    name: 'training_head_product',
    fields: {
      /** First head of the first sequence; bytes from a head, a sequence and a row to the next; heads that share one. */
      a: 'i32',
      aHead: 'i32',
      aBatch: 'i32',
      lda: 'i32',
      aShared: 'i32',
      b: 'i32',
      bHead: 'i32',
      bBatch: 'i32',
      ldb: 'i32',
      bShared: 'i32',
      c: 'i32',
      cHead: 'i32',
      cBatch: 'i32',
      ldc: 'i32',
      /** Whether c is added to. */
      add: 'i32',
      rows: 'i32',
      columns: 'i32',
      depth: 'i32',
      outerBatches: 'i32',
      innerHeads: 'i32',
      innerBatches: 'i32',
      rowBlocks: 'i32',
      zeros: 'i32',
    },
    build(context, f, at, begin, end) {
      const { panel } = context.features;
      const multiply = panelFunction(context);
      const pack = form === 'a·bᵀ' ? packRowsFunction(context) : packColumnsFunction(context);
      const exchange = form === 'aᵀ·b' ? transposeFunction(context) : 0;
      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const { unit, head, batch, h, b, lastH, lastB, fresh } = locals(
        ...['unit', 'head', 'batch', 'h', 'b', 'lastH', 'lastB', 'fresh'],
      );
      const { left, right, c, k, depth, row, lastRow, count, p, panels, x, lda, start, ldStart, n } = locals(
        ...['left', 'right', 'c', 'k', 'depth', 'row', 'lastRow', 'count', 'p', 'panels'],
        ...['x', 'lda', 'start', 'ldStart', 'n'],
      );
      const ragged = context.scratch(f);
      const exchanged = f.local('i32', plus(ragged, RAGGED));
      const packed = f.local('i32', plus(exchanged, ROW_BLOCK * EXCHANGED));
      const panelBytes = i32.const(DEPTH * panel * 4);
      const operand = (name: 'a' | 'b') =>
        i32.add(
          at[name],
          i32.add(
            i32.mul(i32.div_u(h, at[`${name}Shared`]), at[`${name}Head`]),
            i32.mul(b, at[`${name}Batch`]),
          ),
        );
      const packRight = () => {
        if (form === 'a·bᵀ')
          f.call(pack, i32.add(right, times(k, 4)), at.ldb, at.columns, depth, packed, panelBytes);
        else f.call(pack, i32.add(right, i32.mul(k, at.ldb)), at.ldb, depth, panels, packed, panelBytes);
      };
      const placeLeft = () => {
        if (form !== 'aᵀ·b') {
          f.set(x, i32.add(left, i32.add(i32.mul(row, at.lda), times(k, 4))));
          f.set(lda, at.lda);
          return;
        }
        f.set(x, i32.add(left, i32.add(i32.mul(k, at.lda), times(row, 4))));
        f.for(n, i32.const(0), count, TRANSPOSED_COLUMNS, () =>
          f.call(
            exchange,
            i32.add(x, times(n, 4)),
            at.lda,
            depth,
            i32.add(exchanged, i32.mul(n, i32.const(EXCHANGED))),
            i32.const(EXCHANGED),
          ),
        );
        f.set(x, exchanged);
        f.set(lda, i32.const(EXCHANGED));
      };
      const block = () => {
        placeLeft();
        f.set(start, at.zeros);
        f.set(ldStart, i32.const(0));
        f.if(i32.or(i32.eqz(fresh), k), () => f.set(ldStart, at.ldc));
        f.for(p, i32.const(0), panels, 1, () => {
          const to = i32.add(i32.add(c, i32.mul(row, at.ldc)), i32.mul(p, i32.const(panel * 4)));
          f.set(n, to);
          f.call(
            multiply,
            x,
            i32.add(packed, i32.mul(p, panelBytes)),
            n,
            i32.select(n, start, ldStart),
            at.zeros,
            times(depth, 4),
            lda,
            at.ldc,
            ldStart,
            count,
            i32.min_s(i32.const(panel), i32.sub(at.columns, i32.mul(p, i32.const(panel)))),
            ragged,
          );
        });
      };
      f.set(panels, i32.div_u(plus(at.columns, panel - 1), i32.const(panel)));
      f.for(unit, begin, end, 1, () => {
        f.set(x, i32.div_u(unit, at.rowBlocks));
        f.set(head, i32.div_u(x, at.outerBatches));
        f.set(batch, i32.rem_u(x, at.outerBatches));
        f.set(c, i32.add(at.c, i32.add(i32.mul(head, at.cHead), i32.mul(batch, at.cBatch))));
        f.set(fresh, i32.eqz(at.add));
        f.set(h, i32.mul(head, at.innerHeads));
        f.set(lastH, i32.add(h, at.innerHeads));
        f.for(h, h, lastH, 1, () => {
          f.set(b, i32.mul(batch, at.innerBatches));
          f.set(lastB, i32.add(b, at.innerBatches));
          f.for(b, b, lastB, 1, () => {
            f.set(left, operand('a'));
            f.set(right, operand('b'));
            f.for(k, i32.const(0), at.depth, DEPTH, () => {
              f.set(depth, i32.min_s(i32.const(DEPTH), i32.sub(at.depth, k)));
              packRight();
              f.set(row, i32.const(0));
              f.set(lastRow, at.rows);
              f.if(i32.gt_u(at.rowBlocks, i32.const(1)), () => {
                f.set(row, i32.mul(i32.rem_u(unit, at.rowBlocks), i32.const(ROW_BLOCK)));
                f.set(lastRow, i32.min_s(at.rows, plus(row, ROW_BLOCK)));
              });
              f.for(row, row, lastRow, ROW_BLOCK, () => {
                f.set(count, i32.min_s(i32.const(ROW_BLOCK), i32.sub(lastRow, row)));
                block();
              });
            });
            f.set(fresh, i32.const(0));
          });
        });
      });
    },
  }) as Kernel;
