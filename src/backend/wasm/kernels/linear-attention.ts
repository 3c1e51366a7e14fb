import { f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import { packKeys } from './attention-tiles.ts';
import { eachHead, headPlace } from './heads.ts';
import { kernel, plus, reduce, times } from './kernel.ts';
import { FIELDS, featurePass, type LinearAttentionVariant, scratchOf } from './linear-attention-block.ts';
import { NO_EXPONENT } from './linear-attention-features.ts';
import {
  columnSums,
  denominators,
  outputTile,
  PANEL_BYTES,
  ROWS,
  stateTile,
  tileRows,
} from './linear-attention-tiles.ts';

/**
 * Attention by feature maps, O(N) in time: one pass over blocks of keys gathers φ(K)ᵀV and φ(K)ᵀ1, one over blocks of
 * queries reads them. Exponents of keys are taken against their running maximum, and what was gathered is rescaled when
 * that grows. A unit of work is one head of one sequence.
 */
export function linearAttentionKernel(variant: LinearAttentionVariant) {
  const { map, headSize, features } = variant;
  const scratch = scratchOf(variant);
  const { pitch, M, projected } = scratch;
  return kernel({
    name: `linear_attention_${map}_${headSize}_${features}`,
    fields: FIELDS,
    build(context, f, at, begin, end) {
      const rows = tileRows(context);
      const pack = packKeys(context, pitch);
      const gather = stateTile(context, pitch);
      const output = outputTile(context, M, rows, pitch);
      const sum = columnSums(context);
      const denominate = denominators(context, M);
      const head = headPlace(f);
      const { b, h, q, k, v, length } = head;
      const [o, row, count, d, panel, x, y] = f.localArray('i32', 7);
      const base = f.local('i32', context.scratch(f));
      const [numerator, denominator, addend] = f.localArray('v128', 3);
      const place = (offset: number): I32 => plus(base, offset);
      const feature = featurePass(context, f, at, variant, base);
      const rowAt = (from: I32): I32 => i32.add(from, i32.mul(row, i32.const(pitch * 4)));
      const blocks = (total: I32, body: () => void) =>
        f.for(row, i32.const(0), total, ROWS, () => {
          f.set(count, i32.min_s(i32.const(ROWS), i32.sub(total, row)));
          body();
        });

      const blockOfKeys = () => {
        feature('keys', rowAt(k), row, count);
        f.set(y, place(scratch.sums));
        f.set(x, place(scratch.state));
        f.for(panel, place(scratch.phi), place(scratch.phi + (M / 8) * PANEL_BYTES), PANEL_BYTES, () => {
          f.call(sum, panel, i32.const(32), count, y);
          for (let column = 0; column < pitch; column += 8)
            for (let half = 0; half < 2; half++)
              f.call(
                gather,
                plus(panel, half * 16),
                plus(rowAt(v), column * 4),
                plus(x, column * M * 4 + half * 128),
                count,
              );
          f.increment(y, 32);
          f.increment(x, 256);
        });
        if (map === 'performer')
          for (let column = 0; column < pitch; column += 8)
            f.call(
              sum,
              plus(rowAt(v), column * 4),
              i32.const(pitch * 4),
              count,
              place(scratch.values + column * 4),
            );
      };

      /** What ε adds to the features of every key: ε Σ V to each row of the state, ε times the keys to each sum. */
      const addEpsilon = () => {
        const epsilon = f.local('v128', f32x4.splat(at.epsilon));
        for (let column = 0; column < pitch; column += 8)
          for (let half = 0; half < 2; half++) {
            f.set(addend, f32x4.mul(epsilon, v128.load(place(scratch.values + column * 4 + half * 16))));
            const from = scratch.state + column * M * 4 + half * 16;
            f.for(x, place(from), place(from + M * 32), 32, () =>
              f.emit(v128.store(x, f32x4.add(v128.load(x), addend))),
            );
          }
        f.set(addend, f32x4.mul(epsilon, f32x4.splat(f32.convert_i32_s(length))));
        f.for(x, place(scratch.sums), place(scratch.sums + M * 4), 16, () =>
          f.emit(v128.store(x, f32x4.add(v128.load(x), addend))),
        );
      };

      const blockOfQueries = () => {
        feature('queries', rowAt(q), row, count);
        f.call(denominate, place(scratch.phi), place(scratch.sums), place(scratch.denominators), count);
        for (let column = 0; column < pitch; column += 8)
          f.for(x, i32.const(0), count, rows, () =>
            f.call(
              output,
              i32.add(place(scratch.phi), times(x, 32)),
              place(scratch.state + column * M * 4),
              i32.add(place(scratch.rows + column * 4), i32.mul(x, i32.const(pitch * 4))),
            ),
          );
        f.set(x, place(scratch.rows));
        f.for(d, i32.const(0), times(count, 16), 16, () => {
          f.set(denominator, v128.load(i32.add(place(scratch.denominators), d)));
          reduce(f, [denominator], f32x4.add);
          // Nothing to attend to, or no feature in common: the row is 0.
          const share = (offset: number) => {
            f.set(numerator, f32x4.div(v128.load(x, offset), denominator));
            return v128.andnot(numerator, f32x4.eq(denominator, v128.zero));
          };
          for (let c = 0; c + 4 <= headSize; c += 4) f.emit(v128.store(o, share(4 * c), 4 * c));
          const tail = headSize & ~3;
          if (tail < headSize) {
            f.set(numerator, share(4 * tail));
            for (let c = tail; c < headSize; c++) f.emit(v128.store32_lane(o, numerator, c - tail, 4 * c));
          }
          f.increment(x, pitch * 4);
          f.set(o, i32.add(o, i32.mul(at.H, i32.const(headSize * 4))));
        });
      };

      const zeroed = scratch.offsets - scratch.state;
      if (projected)
        f.if(i32.eqz(at.wHead), () => f.call(pack, at.w, place(scratch.weights), i32.const(features)));
      eachHead(f, at, begin, end, head, () => {
        if (projected)
          f.if(at.wHead, () =>
            f.call(pack, i32.add(at.w, i32.mul(h, at.wHead)), place(scratch.weights), i32.const(features)),
          );
        f.for(x, place(scratch.state), place(scratch.state + zeroed), 16, () =>
          f.emit(v128.store(x, v128.zero)),
        );
        f.emit(v128.store(place(scratch.top), v128.f32x4(NO_EXPONENT)));
        blocks(length, blockOfKeys);
        if (map === 'performer') addEpsilon();
        f.set(
          o,
          i32.add(at.o, i32.mul(i32.add(i32.mul(i32.mul(b, at.N), at.H), h), i32.const(headSize * 4))),
        );
        blocks(at.N, blockOfQueries);
      });
    },
  });
}
