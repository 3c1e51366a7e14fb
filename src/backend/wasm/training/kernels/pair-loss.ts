import type { Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../../instructions.ts';
import { byTiles } from '../../kernels/attention.ts';
import { KEYS, packKeys, scoreRow, scoreTile } from '../../kernels/attention-tiles.ts';
import { type Kernel, type KernelContext, kernel, plus, times } from '../../kernels/kernel.ts';
import { clear, existing, productFunction } from '../../kernels/product.ts';
import { transposeBlock } from './attention.ts';
import {
  type At,
  BLOCK,
  BLOCKS,
  FIELDS,
  LOWEST,
  type RowFunction,
  rowFunctions,
  STATS,
  statAt,
  TILE_ROWS,
} from './pair-rows.ts';

/** What one kernel is generated for: heads that a relation takes together, and columns of one, of both sides. */
export interface PairLossVariant {
  readonly compare: 'scores' | 'relations';
  readonly student: { readonly group: number; readonly pitch: number };
  readonly teacher: { readonly group: number; readonly pitch: number };
}

const columnsOf = ({ group, pitch }: PairLossVariant['student']): number => group * pitch;

/** Bytes of scratch that one thread needs: three blocks of pairs, rows of queries, keys as rows and as panels. */
export function pairLossScratch(N: number, { student, teacher }: PairLossVariant): number {
  const rows = (N + KEYS - 1) & -KEYS;
  const [s, t] = [columnsOf(student), columnsOf(teacher)];
  return 3 * BLOCK + BLOCKS.query * (32 + (2 * s + t) * 4) + rows * (3 * s + 2 * t) * 4;
}

/** Rows of `group` heads side by side: `count` rows to `to`, or added from there to the heads. */
function joinGroup(
  { module }: KernelContext,
  name: string,
  { group, pitch }: PairLossVariant['student'],
  back: boolean,
): number {
  return module.func(
    `training_pairs_${name}`,
    { heads: 'i32', headBytes: 'i32', rows: 'i32', count: 'i32' },
    (f, p) => {
      const [h, head, row, left, to] = f.localArray('i32', 5);
      f.for(h, i32.const(0), i32.const(group), 1, () => {
        f.set(head, i32.add(p.heads, i32.mul(h, p.headBytes)));
        f.set(row, i32.add(p.rows, i32.mul(h, i32.const(pitch * 4))));
        f.set(left, p.count);
        f.while(
          () => left,
          () => {
            f.set(to, row);
            for (let d = 0; d < pitch * 4; d += 16)
              f.emit(
                back
                  ? v128.store(head, f32x4.add(v128.load(head, d), v128.load(to, d)), d)
                  : v128.store(to, v128.load(head, d), d),
              );
            f.increment(head, pitch * 4);
            f.increment(row, group * pitch * 4);
            f.increment(left, -1);
          },
        );
      });
    },
  );
}

/** The loss of pairs, or its gradient by the student's rows; a unit is one relation of one sequence. */
export function pairLossKernel(variant: PairLossVariant, gradient: boolean): Kernel {
  const { compare, student, teacher } = variant;
  const [s, t] = [columnsOf(student), columnsOf(teacher)];
  return kernel({
    name: `training_pairs${gradient ? '_gradient' : ''}`,
    fields: FIELDS,
    build(context, f, at: At, begin, end) {
      const tiles = (columns: number) =>
        Array.from({ length: TILE_ROWS + 1 }, (_, r) => (r ? scoreTile(context, BLOCKS, columns, r) : 0));
      const scoresS = tiles(s);
      const scoresT = tiles(t);
      const [joinS, joinT] = [
        joinGroup(context, 's', student, false),
        joinGroup(context, 't', teacher, false),
      ];
      const [packS, packT] = [packKeys(context, s), packKeys(context, t)];
      const row = rowFunctions(context);
      const passes: RowFunction[] = gradient
        ? [compare === 'scores' ? row.scoresGradient() : row.relationsGradient()]
        : compare === 'scores'
          ? [row.squares()]
          : [row.online(), row.divergence()];
      const split = gradient ? joinGroup(context, 'back', student, true) : 0;
      const exchange = gradient ? transposeBlock(context, BLOCKS) : 0;
      const product = gradient ? productFunction(context, 'training_pairs', s) : 0;

      const locals = (...names: string[]) => Object.fromEntries(names.map((n) => [n, f.local('i32')]));
      const { unit, r, b, length, first, rows, key, keys, i, j, x, y, q, k, tq, tk, head } = locals(
        ...['unit', 'r', 'b', 'length', 'first', 'rows', 'key', 'keys', 'i', 'j', 'x', 'y'],
        ...['q', 'k', 'tq', 'tk', 'head'],
      );
      const area = (from: I32, bytes: number): Variable<'i32'> => f.local('i32', plus(from, bytes));
      const S = context.scratch(f);
      const T = area(S, BLOCK);
      const exchanged = area(T, BLOCK);
      const stats = area(exchanged, BLOCK);
      const queriesS = area(stats, BLOCKS.query * 32);
      const queriesT = area(queriesS, BLOCKS.query * s * 4);
      const dQueries = area(queriesT, BLOCKS.query * t * 4);
      const keysS = area(dQueries, BLOCKS.query * s * 4);
      const paddedRows = f.local('i32', i32.and(plus(at.N, KEYS - 1), i32.const(-KEYS)));
      const after = (from: I32, columns: number) =>
        f.local('i32', i32.add(from, i32.mul(paddedRows, i32.const(columns * 4))));
      const panelsS = after(keysS, s);
      const dKeys = after(panelsS, s);
      const keysT = after(dKeys, s);
      const panelsT = after(keysT, t);
      const sequence = (pitch: number) => i32.mul(i32.mul(b, at.N), i32.const(pitch * 4));

      /** Scores of both sides for one block, row by row through `pass`. */
      const block = (pass: RowFunction) => {
        f.set(keys, i32.min_s(i32.const(BLOCKS.key), i32.sub(length, key)));
        f.for(j, i32.const(0), keys, KEYS, () => {
          const to = (base: I32) =>
            i32.add(base, i32.add(i32.mul(i, i32.const(scoreRow(BLOCKS))), times(j, 4)));
          for (const [panels, columns, queries, out, scores] of [
            [panelsS, s, queriesS, S, scoresS],
            [panelsT, t, queriesT, T, scoresT],
          ] as const) {
            f.set(x, i32.add(panels, i32.mul(i32.add(key, j), i32.const(columns * 4))));
            byTiles(
              f,
              rows,
              i,
              (n) => f.call(scores[n], i32.add(queries, i32.mul(i, i32.const(columns * 4))), x, to(out)),
              TILE_ROWS,
            );
          }
        });
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(x, i32.mul(i, i32.const(scoreRow(BLOCKS))));
          pass(f, i32.add(S, x), i32.add(T, x), i32.add(stats, times(i, 4)), keys, at);
        });
      };
      const numbers = (): I32 => i32.add(i32.mul(i32.add(i32.mul(r, at.B), b), at.N), i32.add(first, i));
      const startRows = () => {
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(y, i32.add(stats, times(i, 4)));
          for (const name of STATS) {
            const value = name.startsWith('largest') ? v128.f32x4(LOWEST) : v128.zero;
            f.emit(v128.store32_lane(y, value, 0, statAt(name)));
          }
          if (!gradient) return;
          // What a row's slopes are multiplied by.
          const factor = f32.mul(f32.load(i32.add(at.rows, times(numbers(), 8))), at.studentScale);
          f.emit(
            f32.store(
              y,
              compare === 'scores'
                ? f32.div(f32.mul(factor, f32.const(2)), f32.convert_i32_s(length))
                : factor,
              statAt('d'),
            ),
          );
          f.set(x, i32.add(at.statistics, times(numbers(), 16)));
          if (compare === 'relations')
            for (const [n, name] of STATS.slice(0, 4).entries())
              f.emit(i32.store(y, i32.load(x, 4 * n), statAt(name)));
        });
      };
      const finishRows = () =>
        f.for(i, i32.const(0), rows, 1, () => {
          f.set(y, i32.add(stats, times(i, 4)));
          f.set(x, i32.add(at.rows, times(numbers(), 8)));
          const loss = f32.load(y, statAt('loss'));
          f.emit(f32.store(x, compare === 'scores' ? f32.div(loss, f32.convert_i32_s(length)) : loss));
          f.emit(f32.store(x, f32.const(1), 4));
          f.set(x, i32.add(at.statistics, times(numbers(), 16)));
          if (compare === 'relations')
            for (const [n, name] of STATS.slice(0, 4).entries())
              f.emit(i32.store(x, i32.load(y, statAt(name)), 4 * n));
        });

      f.for(unit, begin, end, 1, () => {
        f.set(r, i32.div_u(unit, at.B));
        f.set(b, i32.rem_u(unit, at.B));
        f.set(length, existing(at.lengths, b, at.N));
        f.set(
          head,
          i32.add(i32.mul(i32.mul(r, i32.const(student.group)), at.studentHead), sequence(student.pitch)),
        );
        f.set(q, i32.add(at.studentQ, head));
        f.set(k, i32.add(at.studentK, head));
        f.set(
          head,
          i32.add(i32.mul(i32.mul(r, i32.const(teacher.group)), at.teacherHead), sequence(teacher.pitch)),
        );
        f.set(tq, i32.add(at.teacherQ, head));
        f.set(tk, i32.add(at.teacherK, head));
        f.call(joinS, k, at.studentHead, keysS, length);
        f.call(joinT, tk, at.teacherHead, keysT, length);
        f.call(packS, keysS, panelsS, length);
        f.call(packT, keysT, panelsT, length);
        if (gradient) clear(f, x, dKeys, i32.mul(length, i32.const(s * 4)));
        f.for(first, i32.const(0), length, BLOCKS.query, () => {
          f.set(rows, i32.min_s(i32.const(BLOCKS.query), i32.sub(length, first)));
          const from = (base: I32, pitch: number) => i32.add(base, i32.mul(first, i32.const(pitch * 4)));
          f.call(joinS, from(q, student.pitch), at.studentHead, queriesS, rows);
          f.call(joinT, from(tq, teacher.pitch), at.teacherHead, queriesT, rows);
          startRows();
          if (gradient) clear(f, x, dQueries, i32.const(BLOCKS.query * s * 4));
          for (const pass of passes)
            f.for(key, i32.const(0), length, BLOCKS.key, () => {
              block(pass);
              if (!gradient) return;
              const offset = i32.mul(key, i32.const(s * 4));
              const row0 = i32.const(scoreRow(BLOCKS));
              f.call(product, S, row0, i32.add(keysS, offset), dQueries, times(keys, 4), rows);
              f.call(exchange, S, exchanged, rows, keys);
              f.call(
                product,
                exchanged,
                i32.const(BLOCKS.query * 4),
                queriesS,
                i32.add(dKeys, offset),
                times(rows, 4),
                keys,
              );
            });
          if (gradient) f.call(split, i32.add(from(q, student.pitch), at.dQ), at.studentHead, dQueries, rows);
          else finishRows();
        });
        if (gradient) f.call(split, i32.add(k, at.dK), at.studentHead, dKeys, length);
      });
    },
  }) as Kernel;
}
