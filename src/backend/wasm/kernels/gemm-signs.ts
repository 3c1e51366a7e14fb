import type { Activation } from '../../../program/ops/activation.ts';
import { f32, f32x4, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { SIGNS_WIDTH } from '../panels.ts';
import { rowPointers } from './gemm-tile.ts';
import { type KernelContext, kernel, multiplyAdd, plus, times } from './kernel.ts';
import { activate } from './math.ts';

/** Rows of the largest tile. */
const ROWS = 4;

/** For each nibble of x, how many bits differ between it and each nibble of w. */
export function differences(): Int32Array {
  const bits = (n: number): number => (n ? (n & 1) + bits(n >> 1) : 0);
  return new Int32Array(Uint8Array.from({ length: 256 }, (_, i) => bits((i >> 4) ^ (i & 15))).buffer);
}

const FIELDS = {
  a: 'i32',
  rowScales: 'i32',
  w: 'i32',
  corrections: 'i32',
  bias: 'i32',
  c: 'i32',
  residual: 'i32',
  /** Address of `differences`. */
  table: 'i32',
  M: 'i32',
  /** Bytes of a row of a, and of those that are counted at a time: at most 31, so that a byte holds the count. */
  lda: 'i32',
  block: 'i32',
  /** Bytes from the scales of one block to those of the next: 0 where all share theirs. */
  scaleStep: 'i32',
  scalesAt: 'i32',
  ldc: 'i32',
  panels: 'i32',
  panelBytes: 'i32',
  columns: 'i32',
  /** Groups of 8 columns of one head and bytes between heads. */
  eightsPerHead: 'i32',
  headBytes: 'i32',
  rowsPerBlock: 'i32',
  panelsPerUnit: 'i32',
  unitsPerBlock: 'i32',
} as const;

/** Bytes 4n to 4n + 3 as words. */
function quarter(x: V128, n: number): V128 {
  const half = n & 2 ? i16x8.extend_high_i8x16_u(x) : i16x8.extend_low_i8x16_u(x);
  return n & 1 ? i32x4.extend_high_i16x8_u(half) : i32x4.extend_low_i16x8_u(half);
}

/**
 * Σ over blocks of scale · (bits that differ) for `rows` rows and the 32 columns of a panel, as floats at `to`, 128
 * bytes a row. A nibble of a row picks a table of 16 bytes; nibbles of 16 columns look their counts up in it.
 */
function signsTile({ module, features }: KernelContext, name: string, half: boolean, rows: number): number {
  const swizzle = features.level === 'relaxed-simd' ? i8x16.relaxed_swizzle : i8x16.swizzle;
  const madd = multiplyAdd(features);
  const parameters = { a: 'i32', lda: 'i32', b: 'i32', to: 'i32', scales: 'i32' } as const;
  const shared = { scaleStep: 'i32', block: 'i32', table: 'i32' } as const;
  return module.func(`${name}_${rows}`, { ...parameters, ...shared }, (f, p) => {
    const counts = f.localArray('v128', 2 * rows);
    const low = f.localArray('v128', 2);
    const high = f.localArray('v128', 2);
    const [table, scale] = f.localArray('v128', 2);
    const nibbles = f.constant(new Float32Array(new Uint8Array(4).fill(15).buffer)[0]);
    const [byte, blockEnd] = f.localArray('i32', 2);
    const row = rowPointers(f, p.a, rows, p.lda);
    const end = f.local('i32', i32.add(p.a, p.lda));
    for (let i = 0; i < 8 * rows; i++) f.emit(v128.store(p.to, v128.zero, 16 * i));
    f.doWhile(
      () => {
        for (const x of counts) f.set(x, v128.zero);
        f.set(blockEnd, i32.add(p.a, p.block));
        f.doWhile(
          () => {
            for (let j = 0; j < 2; j++) {
              f.set(high[j], v128.load(p.b, 16 * j));
              f.set(low[j], v128.and(high[j], nibbles));
              f.set(high[j], v128.and(i16x8.shr_u(high[j], i32.const(4)), nibbles));
            }
            for (let i = 0; i < rows; i++) {
              f.set(byte, i32.load8_u(row[i]));
              const count = (x: V128, j: number) =>
                f.set(counts[2 * i + j], i8x16.add(counts[2 * i + j], swizzle(table, x)));
              f.set(table, v128.load(i32.add(p.table, times(i32.and(byte, i32.const(15)), 16))));
              for (let j = 0; j < 2; j++) count(low[j], j);
              f.set(table, v128.load(i32.add(p.table, i32.and(byte, i32.const(0xf0)))));
              for (let j = 0; j < 2; j++) count(high[j], j);
            }
            f.increment(p.b, SIGNS_WIDTH);
            for (const r of row) f.increment(r, 1);
          },
          () => i32.lt_u(p.a, blockEnd),
        );
        for (let four = 0; four < 8; four++) {
          f.set(
            scale,
            half
              ? f32x4.mul(i32x4.shl(v128.load16x4_u(p.scales, 8 * four), i32.const(13)), f.constant(2 ** 112))
              : v128.load(p.scales, 16 * four),
          );
          for (let i = 0; i < rows; i++) {
            const wide = quarter(counts[2 * i + (four >> 2)], four & 3);
            const at = 128 * i + 16 * four;
            f.emit(v128.store(p.to, madd(f32x4.convert_i32x4_s(wide), scale, v128.load(p.to, at)), at));
          }
        }
        f.set(p.scales, i32.add(p.scales, p.scaleStep));
      },
      () => i32.lt_u(p.a, end),
    );
  });
}

/** From `from`, 8 columns of a tile, to their place: `α · (correction − 2 · count) + bias`, activation, residual. */
function placeColumns({ module, features }: KernelContext, name: string, activation: Activation): number {
  const madd = multiplyAdd(features);
  const parameters = {
    from: 'i32',
    c: 'i32',
    ldc: 'i32',
    residual: 'i32',
    rows: 'i32',
    columns: 'i32',
  } as const;
  const vectors = { bias: 'i32', corrections: 'i32', rowScales: 'i32' } as const;
  return module.func(`${name}_place`, { ...parameters, ...vectors }, (f, p) => {
    const y = f.localArray('v128', 2);
    const alpha = f.local('v128');
    const i = f.local('i32');
    f.while(
      () => p.rows,
      () => {
        f.set(alpha, v128.load32_splat(p.rowScales));
        for (let j = 0; j < 2; j++) {
          const sum = madd(v128.load(p.from, 16 * j), f.constant(-2), v128.load(p.corrections, 16 * j));
          f.set(y[j], activate(f, features, activation, madd(alpha, sum, v128.load(p.bias, 16 * j))));
        }
        f.if(
          i32.eq(p.columns, i32.const(8)),
          () => {
            for (let j = 0; j < 2; j++) {
              f.if(p.residual, () => f.set(y[j], f32x4.add(y[j], v128.load(p.residual, 16 * j))));
              f.emit(v128.store(p.c, y[j], 16 * j));
            }
          },
          () => {
            for (let j = 0; j < 2; j++) f.emit(v128.store(p.from, y[j], 16 * j));
            f.for(i, i32.const(0), times(p.columns, 4), 4, () => {
              const value = f.local('f32', f32.load(i32.add(p.from, i)));
              f.if(p.residual, () => f.set(value, f32.add(value, f32.load(i32.add(p.residual, i)))));
              f.emit(f32.store(i32.add(p.c, i), value));
            });
          },
        );
        f.increment(p.from, 128);
        f.set(p.c, i32.add(p.c, p.ldc));
        f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, p.ldc)));
        f.increment(p.rowScales, 8);
        f.increment(p.rows, -1);
      },
    );
  });
}

/** `y = activation(x Wᵀ + b) + residual` of bits by bits: of ±1 a product is K − 2 · (bits that differ). */
export function gemmSignsKernel(half: boolean, activation: Activation) {
  const name = `gemm_signs_${half ? 'half_' : ''}${activation}`;
  return kernel({
    name,
    fields: FIELDS,
    build(context, f, at, begin, end) {
      const byRows = Array.from({ length: ROWS }, (_, r) => signsTile(context, name, half, r + 1));
      const place = placeColumns(context, name, activation);
      const scratch = context.scratch(f);
      const [unit, p, last, m, lastRow, rows, eight, a, c, residual] = f.localArray('i32', 10);
      const eights = f.local('i32', i32.shr_u(plus(at.columns, 7), i32.const(3)));
      const placeTile = () => {
        f.for(eight, times(p, 4), i32.min_s(times(plus(p, 1), 4), eights), 1, () => {
          const within = times(i32.rem_u(eight, at.eightsPerHead), 32);
          const head = i32.mul(i32.div_u(eight, at.eightsPerHead), at.headBytes);
          f.set(c, i32.add(i32.mul(m, at.ldc), i32.add(head, within)));
          f.set(residual, i32.const(0));
          f.if(at.residual, () => f.set(residual, i32.add(at.residual, c)));
          f.call(
            place,
            i32.add(scratch, times(i32.and(eight, i32.const(3)), 32)),
            i32.add(at.c, c),
            at.ldc,
            residual,
            rows,
            i32.min_s(i32.const(8), i32.sub(at.columns, times(eight, 8))),
            i32.add(at.bias, times(eight, 32)),
            i32.add(at.corrections, times(eight, 32)),
            i32.add(at.rowScales, times(m, 8)),
          );
        });
      };
      f.for(unit, begin, end, 1, () => {
        f.set(p, i32.mul(i32.rem_u(unit, at.unitsPerBlock), at.panelsPerUnit));
        f.set(last, i32.min_s(i32.add(p, at.panelsPerUnit), at.panels));
        f.while(
          () => i32.lt_u(p, last),
          () => {
            f.set(m, i32.mul(i32.div_u(unit, at.unitsPerBlock), at.rowsPerBlock));
            f.set(lastRow, i32.min_s(i32.add(m, at.rowsPerBlock), at.M));
            f.while(
              () => i32.lt_u(m, lastRow),
              () => {
                f.set(rows, i32.min_s(i32.sub(lastRow, m), i32.const(ROWS)));
                f.set(a, i32.add(at.a, i32.mul(m, at.lda)));
                const panel = i32.add(at.w, i32.mul(p, at.panelBytes));
                byRows.forEach((tile, r) => {
                  f.if(i32.eq(rows, i32.const(r + 1)), () =>
                    f.call(
                      tile,
                      a,
                      at.lda,
                      panel,
                      scratch,
                      i32.add(panel, at.scalesAt),
                      at.scaleStep,
                      at.block,
                      at.table,
                    ),
                  );
                });
                placeTile();
                f.set(m, i32.add(m, rows));
              },
            );
            f.increment(p, 1);
          },
        );
      });
    },
  });
}
