import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type F32, f32, f32x4, type I32, i32, v128 } from '../instructions.ts';
import { type KernelContext, kernel, plus, reduce, splat, times } from './kernel.ts';
import { exp2 } from './math.ts';

const pad = (size: number): number => (size + 7) & ~7;

/** One block as the kernel keeps it: mean, mean direction, then agreement (a float). */
const recordBytes = (keySize: number): number => pad(keySize) * 8 + 16;

/** Bytes of scratch of one thread: a record for each block of keys and one for the queries, weights and flags. */
export const selectBlocksScratch = (keyBlocks: number, keySize: number): number =>
  (keyBlocks + 1) * recordBytes(keySize) + ((keyBlocks + 4) & ~3) * 8 + 64;

/** Mean of `count` rows, mean of their directions, and the square of the latter: the mean cosine of their pairs. */
function poolRows({ module }: KernelContext, pitch: number): number {
  return module.func('select_pool', { x: 'i32', count: 'i32', out: 'i32' }, (f, p) => {
    const [i, d] = f.localArray('i32', 2);
    const [factor, norm] = f.localArray('v128', 2);
    const columns = f.localArray('v128', 2);
    const inverse = f.local('v128', f32x4.div(f.constant(1), splat(f32.convert_i32_s(p.count))));
    f.for(d, i32.const(0), i32.const(pitch * 8), 16, () => f.emit(v128.store(i32.add(p.out, d), v128.zero)));
    f.for(i, i32.const(0), p.count, 1, () => {
      for (const c of columns) f.set(c, v128.zero);
      for (let c = 0; c < pitch / 4; c++)
        f.set(
          columns[c & 1],
          f32x4.add(columns[c & 1], f32x4.mul(v128.load(p.x, 16 * c), v128.load(p.x, 16 * c))),
        );
      const square = reduce(f, columns, f32x4.add);
      f.set(norm, f32x4.sqrt(f32x4.pmax(square, f.constant(1e-30))));
      f.set(factor, f32x4.div(inverse, norm));
      f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
        f.set(norm, v128.load(i32.add(p.x, d)));
        const at = i32.add(p.out, d);
        f.emit(v128.store(at, f32x4.add(v128.load(at), f32x4.mul(norm, inverse))));
        f.emit(v128.store(at, f32x4.add(v128.load(at, pitch * 4), f32x4.mul(norm, factor)), pitch * 4));
      });
      f.increment(p.x, pitch * 4);
    });
    for (const c of columns) f.set(c, v128.zero);
    f.for(d, i32.const(pitch * 4), i32.const(pitch * 8), 16, () => {
      f.set(norm, v128.load(i32.add(p.out, d)));
      f.set(columns[0], f32x4.add(columns[0], f32x4.mul(norm, norm)));
    });
    f.emit(v128.store32_lane(p.out, reduce(f, columns, f32x4.add), 0, pitch * 8));
  });
}

/** `a < b` of two floats in memory or registers, as 0 or 1. */
function lessThan(f: FunctionBuilder, slot: I32, a: F32, b: F32): I32 {
  f.emit(v128.store(slot, f32x4.lt(splat(a), splat(b))));
  return i32.and(i32.load(slot), i32.const(1));
}

/**
 * Chooses blocks of keys for each block of queries. A unit of work is one head of one sequence; blocks are taken
 * largest weight first, by search: there are few.
 */
export function selectBlocksKernel(keySize: number) {
  const pitch = pad(keySize);
  const record = recordBytes(keySize);
  return kernel({
    name: `select_blocks_${keySize}`,
    fields: {
      q: 'i32',
      qHead: 'i32',
      qBatch: 'i32',
      k: 'i32',
      kHead: 'i32',
      kBatch: 'i32',
      lengths: 'i32',
      starts: 'i32',
      ends: 'i32',
      entries: 'i32',
      kept: 'i32',
      S: 'i32',
      H: 'i32',
      group: 'i32',
      /** Blocks of queries and of keys of a sequence. */
      rows: 'i32',
      columns: 'i32',
      queryBlock: 'i32',
      keyBlock: 'i32',
      /** Times log₂ e. */
      scale: 'f32',
      mass: 'f32',
      topK: 'i32',
      similarity: 'f32',
    },
    build(context, f, at, begin, end) {
      const pool = poolRows(context, pitch);
      const locals = f.localArray('i32', 20);
      const [unit, b, h, q, k, length, blocks, own, weights, flags] = locals;
      const [i, j, x, y, list, count, best, slot, taken, all] = locals.slice(10);
      const [held, total, largest, most] = f.localArray('f32', 4);
      const sums = f.localArray('v128', 2);
      const S = context.scratch(f);
      const recordOf = (block: I32) => i32.add(S, i32.mul(block, i32.const(record)));
      const agrees = (address: I32) =>
        i32.eqz(lessThan(f, slot, f32.load(address, pitch * 8), at.similarity));
      const each = (to: I32, body: () => void) => f.for(j, i32.const(0), to, 1, body);
      const weight = (index: Variable<'i32'>) => i32.add(weights, times(index, 4));
      const flag = (index: Variable<'i32'>) => i32.add(flags, times(index, 4));

      /** Weights of the blocks of keys that are predicted, and which are kept whatever is predicted. */
      const predict = () => {
        f.set(largest, f32.const(-1e30));
        each(blocks, () => {
          f.set(x, recordOf(j));
          f.set(y, own);
          for (const s of sums) f.set(s, v128.zero);
          for (let c = 0; c < pitch / 4; c++)
            f.set(sums[c & 1], f32x4.add(sums[c & 1], f32x4.mul(v128.load(x, 16 * c), v128.load(y, 16 * c))));
          f.emit(f32.store(weight(j), f32.mul(f32x4.lane(reduce(f, sums, f32x4.add), 0), at.scale)));
          f.set(y, agrees(x));
          f.emit(i32.store(flag(j), i32.eqz(y)));
          f.if(y, () => f.set(largest, f32.max(largest, f32.load(weight(j)))));
        });
        f.set(total, f32.const(0));
        each(blocks, () => {
          f.set(sums[0], splat(f32.sub(f32.load(weight(j)), largest)));
          f.set(sums[0], exp2(f, context.features, sums[0]));
          // What is kept anyway is not predicted: a negative weight is never taken.
          f.if(
            i32.load(flag(j)),
            () => f.emit(f32.store(weight(j), f32.const(-1))),
            () => {
              f.emit(f32.store(weight(j), f32x4.lane(sums[0], 0)));
              f.set(total, f32.add(total, f32.load(weight(j))));
            },
          );
        });
      };

      /** Takes the heaviest block not taken yet, until enough is held. */
      const take = () => {
        f.set(held, f32.const(0));
        f.set(taken, i32.const(0));
        const goal = f.local('f32', f32.mul(at.mass, total));
        f.set(goal, f32.mul(at.mass, total));
        const open = f.local('i32', i32.const(1));
        f.set(open, i32.const(1));
        f.while(
          () => open,
          () => {
            f.set(best, i32.const(-1));
            f.set(most, f32.const(-0.5));
            each(blocks, () =>
              f.if(lessThan(f, slot, most, f32.load(weight(j))), () => {
                f.set(most, f32.load(weight(j)));
                f.set(best, j);
              }),
            );
            const enough = f.local('i32', i32.const(0));
            f.set(enough, i32.eqz(lessThan(f, slot, held, goal)));
            f.if(at.topK, () => f.set(enough, i32.ge_s(taken, at.topK)));
            f.if(
              i32.or(i32.lt_s(best, i32.const(0)), enough),
              () => f.set(open, i32.const(0)),
              () => {
                f.emit(i32.store(flag(best), i32.const(1)));
                f.emit(f32.store(weight(best), f32.const(-1)));
                f.set(held, f32.add(held, most));
                f.increment(taken, 1);
              },
            );
          },
        );
      };

      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, at.H));
        f.set(h, i32.rem_u(unit, at.H));
        f.set(q, i32.add(at.q, i32.add(i32.mul(h, at.qHead), i32.mul(b, at.qBatch))));
        f.set(k, i32.add(at.k, i32.add(i32.mul(i32.div_u(h, at.group), at.kHead), i32.mul(b, at.kBatch))));
        f.set(length, at.S);
        f.if(at.lengths, () => f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.S)));
        f.set(blocks, i32.div_u(plus(i32.add(length, at.keyBlock), -1), at.keyBlock));
        f.set(own, recordOf(at.columns));
        f.set(weights, plus(own, record));
        f.set(flags, i32.add(weights, times(plus(at.columns, 1), 4)));
        f.set(slot, i32.and(plus(i32.add(flags, times(plus(at.columns, 1), 4)), 15), i32.const(-16)));
        each(blocks, () => {
          f.set(x, i32.mul(j, at.keyBlock));
          f.call(
            pool,
            i32.add(k, i32.mul(x, i32.const(pitch * 4))),
            i32.min_s(at.keyBlock, i32.sub(length, x)),
            recordOf(j),
          );
        });
        f.emit(i32.store(i32.add(at.kept, times(unit, 4)), i32.const(0)));
        f.for(i, i32.const(0), at.rows, 1, () => {
          f.set(list, i32.add(i32.mul(unit, at.rows), i));
          f.set(count, i32.mul(list, at.columns));
          f.emit(i32.store(i32.add(at.starts, times(list, 4)), count));
          f.set(x, i32.mul(i, at.queryBlock));
          f.if(i32.lt_s(x, length), () => {
            f.call(
              pool,
              i32.add(q, i32.mul(x, i32.const(pitch * 4))),
              i32.min_s(at.queryBlock, i32.sub(length, x)),
              own,
            );
            f.set(all, i32.eqz(agrees(own)));
            f.if(
              all,
              () => each(blocks, () => f.emit(i32.store(flag(j), i32.const(1)))),
              () => {
                predict();
                take();
                f.set(x, i32.div_u(i32.mul(i, at.queryBlock), at.keyBlock));
                f.emit(i32.store(flag(x), i32.const(1)));
              },
            );
            each(blocks, () =>
              f.if(i32.load(flag(j)), () => {
                f.set(x, i32.add(at.entries, times(count, 8)));
                f.emit(i32.store(x, j));
                f.emit(i32.store(x, i32.const(-1), 4));
                f.increment(count, 1);
              }),
            );
          });
          f.emit(i32.store(i32.add(at.ends, times(list, 4)), count));
          f.set(x, i32.add(at.kept, times(unit, 4)));
          f.emit(i32.store(x, i32.add(i32.load(x), i32.sub(count, i32.mul(list, at.columns)))));
          // The rest of the list stays the same from run to run.
          f.set(y, i32.add(at.entries, times(i32.mul(plus(list, 1), at.columns), 8)));
          f.for(x, i32.add(at.entries, times(count, 8)), y, 4, () => f.emit(i32.store(x, i32.const(0))));
        });
      });
    },
  });
}
