import type { FunctionBuilder } from '../assembler.ts';
import { f32x4, type I32, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { finishInteger, int8Product } from './gemm-int8.ts';
import {
  eachTile,
  type Finish,
  type ProductFamily,
  rowPointers,
  TILE,
  type TileParameters,
} from './gemm-tile.ts';
import { integerDot, pairDot, pairSteps, splitsOf, widenPairs } from './integer-dot.ts';
import { type Features, type KernelContext, multiplyAdd, times } from './kernel.ts';
import { codeReader, type LowBitVariant, largestCode, loadScales } from './low-bit-codes.ts';
import { ROUNDING } from './math.ts';

/** Where the zero points of a panel's first group stand: behind as many scales. */
function zerosBehind(
  f: FunctionBuilder,
  p: Pick<TileParameters, 'K' | 'group' | 'scales'>,
  wide: boolean,
  bytes: number,
) {
  const groups = i32.div_u(times(p.K, wide ? 2 : 1), p.group);
  return f.local('i32', i32.add(p.scales, i32.mul(groups, i32.const(bytes))));
}

/**
 * Whether a panel is opened as the codes themselves: where the engine's dot ends in 16 bits, sums of such small products
 * stay there for many steps, which spares each of them a widening.
 */
const keepsPairs = ({ dot }: Features): boolean => dot === 'u7';

/**
 * A tile whose sums are taken group by group, or as much of one as 16 bits hold: each is exact in integers, and they are
 * added as floats in the tile's place of the output. `opened`: weights are bytes; otherwise they are taken out of their bits in registers.
 */
function groupTile(
  { module, features }: KernelContext,
  name: string,
  rows: number,
  variant: LowBitVariant,
  opened: boolean,
  finish: Finish,
): number {
  const vectors = features.panel / 4;
  const wide = features.dot === 'i16';
  const outputs = rows * vectors;
  const splits = splitsOf(features, outputs);
  const madd = multiplyAdd(features);
  return module.func(`${name}_${rows}`, TILE, (f, p) => {
    const acc = f.localArray('v128', outputs * splits);
    const b = f.localArray('v128', vectors);
    const a = f.local('v128');
    const [groupEnd, to] = f.localArray('i32', 2);
    const zerosAt = f.local('i32');
    const [from, first, end, scales] = f.localArray('i32', 4);
    const reader = codeReader(f, features, variant, from, zerosAt);
    const { perStep, steps, roundBytes, groupBytes } = reader;
    const pairs = opened && keepsPairs(features);
    const dot = pairs ? pairDot : integerDot(f, features);
    const widen = pairs ? widenPairs(f) : (sums: V128) => sums;
    /** Bytes of a row of a whose sums fit 16 bits. */
    const most = Math.floor((4 * pairSteps(largestCode(variant))) / roundBytes) * roundBytes;
    const chunkEnd = f.local('i32');
    // Sums of a group of at most 128 fit the mantissa of 1.5 · 2²³: started from its bits, they are floats already.
    const start = variant.scales === 'row' || pairs ? null : f.constant(ROUNDING);
    const asFloat = (sum: V128): V128 => (start ? f32x4.sub(sum, start) : f32x4.convert_i32x4_s(sum));
    const eachOutput = (body: (i: number, j: number) => void) => {
      f.set(to, p.c);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < vectors; j++) body(i, j);
        if (i < rows - 1) f.set(to, i32.add(to, p.ldc));
      }
    };
    /** The weights of one step. */
    const weights = (step: number) => {
      for (let x = 0; x < perStep; x++) {
        const index = step * perStep + x;
        if (!wide) f.set(b[x], opened ? v128.load(from, 16 * index) : reader.codes(index));
        else if (opened)
          for (const half of [0, 1]) f.set(b[2 * x + half], v128.load8x8_s(from, 16 * index + 8 * half));
        else {
          f.set(a, reader.codes(index));
          f.set(b[2 * x], i16x8.extend_low_i8x16_s(a));
          f.set(b[2 * x + 1], i16x8.extend_high_i8x16_s(a));
        }
      }
    };
    eachTile(f, p, rows, finish, () => {
      /** Adds what the rows of a give up to `until`, a whole group or a part of one. */
      const sumUpTo = (until: I32) => {
        f.set(chunkEnd, until);
        acc.forEach((x, i) => {
          f.set(x, start && i < outputs ? start : v128.zero);
        });
        f.doWhile(
          () => {
            for (let step = 0; step < steps; step++) {
              weights(step);
              for (let i = 0; i < rows; i++) {
                f.set(a, v128.load32_splat(row[i], 4 * step));
                for (let j = 0; j < vectors; j++) {
                  const at = acc[(step % splits) * outputs + i * vectors + j];
                  f.set(at, dot(b[j], a, at));
                }
              }
            }
            if (opened) f.increment(from, 16 * steps * perStep);
            else reader.nextRound();
            for (const r of row) f.increment(r, roundBytes);
          },
          () => i32.lt_u(row[0], chunkEnd),
        );
        for (let j = 0; j < vectors; j++) f.set(b[j], loadScales(f, variant, scales, j, pairs));
        eachOutput((i, j) => {
          let sum: V128 = acc[i * vectors + j];
          for (let s = 1; s < splits; s++) sum = i32x4.add(sum, acc[s * outputs + i * vectors + j]);
          f.emit(v128.store(to, madd(asFloat(widen(sum)), b[j], v128.load(to, 16 * j)), 16 * j));
        });
      };
      f.set(from, p.b);
      f.set(first, p.a);
      f.set(scales, p.scales);
      if (variant.affine && !opened) f.set(zerosAt, zerosBehind(f, p, wide, groupBytes));
      const row = rowPointers(f, first, rows, p.lda);
      f.set(end, i32.add(p.a, times(p.K, wide ? 2 : 1)));
      eachOutput((_, j) => f.emit(v128.store(to, v128.zero, 16 * j)));
      f.while(
        () => i32.lt_u(row[0], end),
        () => {
          if (!opened) reader.startGroup();
          f.set(groupEnd, i32.add(row[0], p.group));
          if (pairs)
            f.doWhile(
              () => sumUpTo(i32.min_u(i32.add(row[0], i32.const(most)), groupEnd)),
              () => i32.lt_u(row[0], groupEnd),
            );
          else sumUpTo(groupEnd);
          f.increment(scales, groupBytes);
        },
      );
      finishInteger(
        f,
        features,
        p,
        rows,
        () => {},
        (_, j, scale, rest, at) => madd(v128.load(at, 16 * j), scale, rest),
      );
    });
  });
}

/** Writes a panel's codes as bytes to `to`, zero points taken off. */
function openPanel({ module, features }: KernelContext, name: string, variant: LowBitVariant): number {
  const parameters = { b: 'i32', to: 'i32', K: 'i32', scales: 'i32', group: 'i32' } as const;
  return module.func(`${name}_open`, parameters, (f, p) => {
    const wide = features.dot === 'i16';
    const zerosAt = f.local('i32');
    const reader = codeReader(f, features, variant, p.b, zerosAt, keepsPairs(features));
    if (variant.affine) f.set(zerosAt, zerosBehind(f, p, wide, reader.groupBytes));
    const left = f.local('i32', times(p.K, wide ? 2 : 1));
    const within = f.local('i32');
    f.while(
      () => left,
      () => {
        reader.startGroup();
        f.set(within, p.group);
        f.doWhile(
          () => {
            for (let index = 0; index < reader.steps * reader.perStep; index++)
              f.emit(v128.store(p.to, reader.codes(index), 16 * index));
            reader.nextRound();
            f.increment(p.to, 16 * reader.steps * reader.perStep);
            f.increment(within, -reader.roundBytes);
          },
          () => within,
        );
        f.set(left, i32.sub(left, p.group));
      },
    );
  });
}

/**
 * Codes of 4, 2 or 1 bits. For one or two rows they are taken out of their bits in registers; for more, a panel is
 * opened once in this thread's scratch and stays in the first cache level: no other copy of the weights is made.
 */
export const lowBitProduct = (name: string, variant: LowBitVariant): ProductFamily => ({
  name,
  most: () => 2,
  tile: (context, tileName, rows, finish) => groupTile(context, tileName, rows, variant, false, finish),
  opened: {
    most: (tiles) => tiles.int8,
    open: (context, panelName) => openPanel(context, panelName, variant),
    tile: (context, tileName, rows, finish) =>
      variant.scales === 'row' && !keepsPairs(context.features)
        ? int8Product.tile(context, tileName, rows, finish)
        : groupTile(context, tileName, rows, variant, true, finish),
  },
});
