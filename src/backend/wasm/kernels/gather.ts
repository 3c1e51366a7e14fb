import type { Pooling } from '../../../program/ops/pool.ts';
import { f32, f32x4, i32, i32x4, v128 } from '../instructions.ts';
import { eachVector, kernel, splat, times } from './kernel.ts';

/** How an embedding table is stored: floats, or int8 codes with a scale a row. */
export type TableCodec = 'float32' | 'int8';

/** `wordScale · word[id] + position[n mod P] + tokenType[type]`; a unit is one token. */
export const embeddingKernel = (
  word: TableCodec,
  position: TableCodec | null,
  tokenType: TableCodec | null,
) =>
  kernel({
    name: `embedding_${word}_${position}_${tokenType}`,
    fields: {
      ids: 'i32',
      types: 'i32',
      y: 'i32',
      word: 'i32',
      wordScales: 'i32',
      position: 'i32',
      positionScales: 'i32',
      tokenType: 'i32',
      tokenTypeScales: 'i32',
      columns: 'i32',
      N: 'i32',
      positions: 'i32',
      factor: 'f32',
    },
    build(_context, f, at, begin, end) {
      const token = f.local('i32');
      const y = f.local('i32');
      const left = f.local('i32');
      const table = (
        codec: TableCodec,
        base: typeof at.word,
        scales: typeof at.word,
        row: ReturnType<typeof i32.load>,
      ) => {
        const cursor = f.local('i32');
        const scale = f.local('v128');
        return {
          codec,
          cursor,
          scale,
          start: () => {
            f.set(left, row);
            f.set(
              cursor,
              i32.add(base, i32.mul(left, i32.mul(at.columns, i32.const(codec === 'int8' ? 1 : 4)))),
            );
            if (codec === 'int8') f.set(scale, v128.load32_splat(i32.add(scales, times(left, 4))));
          },
        };
      };
      const tables = [table(word, at.word, at.wordScales, i32.load(i32.add(at.ids, times(token, 4))))];
      if (position)
        tables.push(
          table(position, at.position, at.positionScales, i32.rem_u(i32.rem_u(token, at.N), at.positions)),
        );
      if (tokenType)
        tables.push(
          table(tokenType, at.tokenType, at.tokenTypeScales, i32.load(i32.add(at.types, times(token, 4)))),
        );
      f.for(token, begin, end, 1, () => {
        for (const t of tables) t.start();
        f.set(y, i32.add(at.y, i32.mul(token, times(at.columns, 4))));
        const floats = tables.filter((t) => t.codec === 'float32').map((t) => t.cursor);
        const bytes = tables.filter((t) => t.codec === 'int8');
        eachVector(f, at.columns, [y, ...floats], 1, (lanes) => {
          const sum = f.local('v128', v128.zero);
          f.set(sum, v128.zero);
          tables.forEach((t, i) => {
            const raw =
              t.codec === 'float32'
                ? lanes.load(t.cursor)
                : f32x4.mul(
                    f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(v128.load8x8_s(t.cursor))),
                    t.scale,
                  );
            f.set(sum, f32x4.add(sum, i === 0 ? f32x4.mul(raw, splat(at.factor)) : raw));
          });
          lanes.store(y, sum);
          for (const t of bytes) f.increment(t.cursor, 4);
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
