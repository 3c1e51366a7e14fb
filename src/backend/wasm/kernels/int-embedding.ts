import { i32, i32x4, v128 } from '../instructions.ts';
import { loadCodes, multiplyShift, rounding, storeWords } from './integer-arithmetic.ts';
import { kernel, plus, times } from './kernel.ts';

/** See `intEmbedding`; a unit is one token. */
export const intEmbeddingKernel = (positions: boolean, tokenTypes: boolean) =>
  kernel({
    name: `int_embedding_${positions}_${tokenTypes}`,
    fields: {
      ids: 'i32',
      types: 'i32',
      y: 'i32',
      word: 'i32',
      wordMultiplier: 'i32',
      position: 'i32',
      positionMultiplier: 'i32',
      tokenType: 'i32',
      tokenTypeMultiplier: 'i32',
      columns: 'i32',
      N: 'i32',
      positions: 'i32',
      shift: 'i32',
    },
    build(_context, f, at, begin, end) {
      const [token, row, y, left] = f.localArray('i32', 4);
      const [codes, sum] = f.localArray('v128', 2);
      const round = rounding(f, at.shift);
      const index = (ids: typeof at.ids) => i32.load(i32.add(ids, times(token, 4)));
      const tables = [
        { codes: at.word, multiplier: at.wordMultiplier, row: () => index(at.ids) },
        ...(positions
          ? [
              {
                codes: at.position,
                multiplier: at.positionMultiplier,
                row: () => i32.rem_u(i32.rem_u(token, at.N), at.positions),
              },
            ]
          : []),
        ...(tokenTypes
          ? [{ codes: at.tokenType, multiplier: at.tokenTypeMultiplier, row: () => index(at.types) }]
          : []),
      ].map((table) => ({ ...table, cursor: f.local('i32'), factor: f.local('v128') }));
      f.for(token, begin, end, 1, () => {
        for (const { codes: from, multiplier, row: rowOf, cursor, factor } of tables) {
          f.set(row, rowOf());
          f.set(cursor, i32.add(from, i32.mul(row, at.columns)));
          f.set(factor, v128.load32_splat(i32.add(multiplier, times(row, 4))));
        }
        f.set(y, i32.add(at.y, i32.mul(token, times(at.columns, 4))));
        f.set(left, at.columns);
        f.while(
          () => i32.gt_s(left, i32.const(0)),
          () => {
            f.set(sum, v128.zero);
            for (const { cursor, factor } of tables) {
              f.set(codes, loadCodes(cursor));
              f.set(sum, i32x4.add(sum, multiplyShift(codes, factor, round)));
              f.increment(cursor, 4);
            }
            storeWords(f, y, left, sum);
            f.set(y, plus(y, 16));
            f.increment(left, -4);
          },
        );
      });
    },
  });
