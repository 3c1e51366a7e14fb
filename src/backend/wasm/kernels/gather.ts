import type { Pooling } from '../../../program/ops/pool.ts';
import { f32, f32x4, i32, i32x4, v128 } from '../instructions.ts';
import { eachVector, kernel, splat, times } from './kernel.ts';
import { type TableFormat, tableReader } from './table.ts';

/** How each table is stored; null where there is none. */
export interface EmbeddingFormat {
  readonly word: TableFormat;
  readonly position: TableFormat | null;
  readonly tokenType: TableFormat | null;
}

/** `wordScale · word[id] + position[n mod P] + tokenType[type]`; a unit is one token. */
export const embeddingKernel = ({ word, position, tokenType }: EmbeddingFormat) =>
  kernel({
    name: 'embedding',
    fields: {
      ids: 'i32',
      types: 'i32',
      y: 'i32',
      word: 'i32',
      wordScales: 'i32',
      wordZeros: 'i32',
      position: 'i32',
      positionScales: 'i32',
      positionZeros: 'i32',
      tokenType: 'i32',
      tokenTypeScales: 'i32',
      tokenTypeZeros: 'i32',
      columns: 'i32',
      N: 'i32',
      positions: 'i32',
      factor: 'f32',
    },
    build(_context, f, at, begin, end) {
      const [token, y, column, row, left] = f.localArray('i32', 5);
      const tables = [
        {
          row: () => i32.load(i32.add(at.ids, times(token, 4))),
          ...tableReader(f, word, { values: at.word, scales: at.wordScales, zeros: at.wordZeros }),
        },
      ];
      if (position)
        tables.push({
          row: () => i32.rem_u(i32.rem_u(token, at.N), at.positions),
          ...tableReader(f, position, {
            values: at.position,
            scales: at.positionScales,
            zeros: at.positionZeros,
          }),
        });
      if (tokenType)
        tables.push({
          row: () => i32.load(i32.add(at.types, times(token, 4))),
          ...tableReader(f, tokenType, {
            values: at.tokenType,
            scales: at.tokenTypeScales,
            zeros: at.tokenTypeZeros,
          }),
        });
      const sums = f.localArray('v128', 2);
      f.for(token, begin, end, 1, () => {
        for (const table of tables) {
          f.set(row, table.row());
          table.start(row, at.columns);
        }
        f.set(y, i32.add(at.y, i32.mul(token, times(at.columns, 4))));
        f.for(column, i32.const(0), at.columns, 8, () => {
          tables.forEach((table, i) => {
            const values = table.next(column);
            sums.forEach((sum, s) => {
              f.set(sum, i === 0 ? f32x4.mul(values[s], splat(at.factor)) : f32x4.add(sum, values[s]));
            });
          });
          f.set(left, i32.sub(at.columns, column));
          f.if(
            i32.ge_u(left, i32.const(8)),
            () => {
              sums.forEach((sum, s) => {
                f.emit(v128.store(y, sum, 16 * s));
              });
            },
            () => {
              for (let i = 0; i < 7; i++)
                f.if(i32.gt_u(left, i32.const(i)), () =>
                  f.emit(v128.store32_lane(y, sums[i >> 2], i & 3, 4 * i)),
                );
            },
          );
          f.increment(y, 32);
        });
      });
    },
  });

/** Rows of one sequence into one; a unit is one sequence. */
export const poolKernel = (pooling: Pooling) =>
  kernel({
    name: `pool_${pooling}`,
    fields: { x: 'i32', y: 'i32', lengths: 'i32', N: 'i32', columns: 'i32' },
    build(_context, f, at, begin, end) {
      const [b, n, rows, x, y] = f.localArray('i32', 5);
      const factor = f.local('v128');
      f.for(b, begin, end, 1, () => {
        f.set(
          rows,
          i32.min_s(
            i32.load(i32.add(at.lengths, times(b, 4))),
            pooling === 'first' ? i32.min_s(at.N, i32.const(1)) : at.N,
          ),
        );
        const count = f32x4.max(splat(f32.convert_i32_s(rows)), v128.f32x4(1));
        f.set(
          factor,
          pooling === 'max'
            ? v128.f32x4(1)
            : f32x4.div(v128.f32x4(1), pooling === 'sqrtMean' ? f32x4.sqrt(count) : count),
        );
        const start = () => f.set(y, i32.add(at.y, i32.mul(b, times(at.columns, 4))));
        start();
        eachVector(f, at.columns, [y], 1, (lanes) => lanes.store(y, v128.zero));
        f.for(n, i32.const(0), rows, 1, () => {
          f.set(x, i32.add(at.x, i32.mul(i32.add(i32.mul(b, at.N), n), times(at.columns, 4))));
          start();
          eachVector(f, at.columns, [x, y], 1, (lanes) => {
            if (pooling !== 'max') lanes.store(y, f32x4.add(lanes.load(y), lanes.load(x)));
            else
              lanes.store(
                y,
                v128.bitselect(
                  lanes.load(x),
                  f32x4.pmax(lanes.load(y), lanes.load(x)),
                  i32x4.eq(i32x4.splat(n), v128.zero),
                ),
              );
          });
        });
        start();
        eachVector(f, at.columns, [y], 1, (lanes) => lanes.store(y, f32x4.mul(lanes.load(y), factor)));
      });
    },
  });

/** x[b, rows[b, p]] → y[b, p]; a unit is one picked row. */
export const selectRowsKernel = kernel({
  name: 'select_rows',
  fields: { x: 'i32', y: 'i32', rows: 'i32', N: 'i32', P: 'i32', columns: 'i32' },
  build(_context, f, at, begin, end) {
    const [i, x, y] = f.localArray('i32', 3);
    f.for(i, begin, end, 1, () => {
      const row = i32.add(i32.mul(i32.div_u(i, at.P), at.N), i32.load(i32.add(at.rows, times(i, 4))));
      f.set(x, i32.add(at.x, i32.mul(row, times(at.columns, 4))));
      f.set(y, i32.add(at.y, i32.mul(i, times(at.columns, 4))));
      eachVector(f, at.columns, [x, y], 1, (lanes) => lanes.store(y, lanes.load(x)));
    });
  },
});
