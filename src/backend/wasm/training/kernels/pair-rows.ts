import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32x4, type I32, type V128, v128 } from '../../instructions.ts';
import { type Blocks, scoreRow } from '../../kernels/attention-tiles.ts';
import { eachVector, type KernelContext, reduce, splat } from '../../kernels/kernel.ts';
import { exp2 } from '../../kernels/math.ts';
import { log } from './log.ts';

export const BLOCKS: Blocks = { query: 64, key: 64 };
export const BLOCK = BLOCKS.query * scoreRow(BLOCKS);
export const TILE_ROWS = 4;
export const LOWEST = -1e30;

export const FIELDS = {
  /** First head of the first sequence, and bytes from a head to the next; a sequence takes N rows. */
  studentQ: 'i32',
  studentK: 'i32',
  studentHead: 'i32',
  teacherQ: 'i32',
  teacherK: 'i32',
  teacherHead: 'i32',
  studentScale: 'f32',
  teacherScale: 'f32',
  lengths: 'i32',
  B: 'i32',
  N: 'i32',
  /** `[R, B, N, 2]`: written by the loss, read by its gradient, where they are the rows' gradients. */
  rows: 'i32',
  /** `[R, B, N, 4]`. */
  statistics: 'i32',
  /** From the student's queries and keys to their gradients. */
  dQ: 'i32',
  dK: 'i32',
} as const;
export type At = { [K in keyof typeof FIELDS]: Variable<(typeof FIELDS)[K]> };

/** Places of one row's numbers in scratch: largest and sum of the student, of the teacher, the loss so far, the gradient. */
export const STATS = ['largestS', 'sumS', 'largestT', 'sumT', 'loss', 'd'] as const;
export const statAt = (name: (typeof STATS)[number]): number => STATS.indexOf(name) * BLOCKS.query * 4;

export type RowFunction = (f: FunctionBuilder, s: I32, t: I32, stats: I32, keys: I32, at: At) => void;

/** A function over one row of both blocks; `body` is given the scaled scores in natural units. */
function rowFunction(
  context: KernelContext,
  name: string,
  build: (
    f: FunctionBuilder,
    each: (
      body: (s: V128, t: V128, keep: (x: V128, otherwise?: V128) => V128, store: (x: V128) => void) => void,
    ) => void,
    stat: {
      get(name: (typeof STATS)[number]): V128;
      put(name: (typeof STATS)[number], x: V128): void;
    },
  ) => void,
): RowFunction {
  const index = context.module.func(
    `training_pairs_${name}`,
    { s: 'i32', t: 'i32', stats: 'i32', keys: 'i32', scaleS: 'f32', scaleT: 'f32' },
    (f, p) => {
      const [x, y] = f.localArray('i32', 2);
      const [scaleS, scaleT] = [f.local('v128', splat(p.scaleS)), f.local('v128', splat(p.scaleT))];
      const each = (body: Parameters<Parameters<typeof build>[1]>[0]) => {
        f.set(x, p.s);
        f.set(y, p.t);
        eachVector(f, p.keys, [x, y], 1, (lanes) => {
          const s = f.local('v128', f32x4.mul(lanes.load(x), scaleS));
          const t = f.local('v128', f32x4.mul(lanes.load(y), scaleT));
          body(
            s,
            t,
            (v, otherwise) => (otherwise ? lanes.keepOr(v, otherwise) : lanes.keep(v)),
            (v) => lanes.store(x, v),
          );
        });
      };
      build(f, each, {
        get: (stat) => v128.load32_splat(p.stats, statAt(stat)),
        put: (stat, v) => f.emit(v128.store32_lane(p.stats, v, 0, statAt(stat))),
      });
    },
  );
  return (f, s, t, stats, keys, at) => f.call(index, s, t, stats, keys, at.studentScale, at.teacherScale);
}

export function rowFunctions(context: KernelContext) {
  const { features } = context;
  const exp = (f: FunctionBuilder, x: V128) => exp2(f, features, f32x4.mul(x, v128.f32x4(Math.LOG2E)));
  const squares = () =>
    rowFunction(context, 'squares', (f, each, { get, put }) => {
      const sum = f.localArray('v128', 1);
      f.set(sum[0], v128.zero);
      each((s, t, keep) => {
        const d = f.local('v128', f32x4.sub(s, t));
        f.set(sum[0], f32x4.add(sum[0], keep(f32x4.mul(d, d))));
      });
      put('loss', f32x4.add(get('loss'), reduce(f, sum, f32x4.add)));
    });
  /** New largest and sums of both sides (Milakov and Gimelshein 2018). */
  const online = () =>
    rowFunction(context, 'online', (f, each, { get, put }) => {
      const tops = f.localArray('v128', 2, v128.f32x4(LOWEST));
      each((s, t, keep) => {
        for (const [i, v] of [s, t].entries())
          f.set(tops[i], f32x4.pmax(tops[i], keep(v, v128.f32x4(LOWEST))));
      });
      const names = [
        ['largestS', 'sumS'],
        ['largestT', 'sumT'],
      ] as const;
      const sums = f.localArray('v128', 2);
      for (const [i, [largest]] of names.entries()) {
        reduce(f, [tops[i]], f32x4.pmax);
        f.set(tops[i], f32x4.pmax(tops[i], get(largest)));
        f.set(sums[i], v128.zero);
      }
      each((s, t, keep) => {
        for (const [i, v] of [s, t].entries())
          f.set(sums[i], f32x4.add(sums[i], keep(exp(f, f32x4.sub(v, tops[i])))));
      });
      for (const [i, [largest, sum]] of names.entries()) {
        reduce(f, [sums[i]], f32x4.add);
        put(sum, f32x4.add(sums[i], f32x4.mul(get(sum), exp(f, f32x4.sub(get(largest), tops[i])))));
        put(largest, tops[i]);
      }
    });
  const divergence = () =>
    rowFunction(context, 'divergence', (f, each, { get, put }) => {
      const [lseS, lseT, inverse] = f.localArray('v128', 3);
      f.set(lseS, f32x4.add(get('largestS'), log(f, f.local('v128', get('sumS')))));
      f.set(lseT, f32x4.add(get('largestT'), log(f, f.local('v128', get('sumT')))));
      const sum = f.localArray('v128', 1);
      f.set(sum[0], v128.zero);
      f.set(inverse, f32x4.div(v128.f32x4(1), get('sumT')));
      each((s, t, keep) => {
        const weight = f32x4.mul(exp(f, f32x4.sub(t, get('largestT'))), inverse);
        const apart = f32x4.sub(f32x4.sub(t, lseT), f32x4.sub(s, lseS));
        f.set(sum[0], f32x4.add(sum[0], keep(f32x4.mul(weight, apart))));
      });
      put('loss', f32x4.add(get('loss'), reduce(f, sum, f32x4.add)));
    });
  const scoresGradient = () =>
    rowFunction(context, 'scores_gradient', (f, each, { get }) => {
      const d = f.local('v128', get('d'));
      each((s, t, _keep, store) => store(f32x4.mul(f32x4.sub(s, t), d)));
    });
  const relationsGradient = () =>
    rowFunction(context, 'relations_gradient', (f, each, { get }) => {
      const [dS, dT, topS, topT] = f.localArray('v128', 4);
      f.set(dS, f32x4.div(get('d'), get('sumS')));
      f.set(dT, f32x4.div(get('d'), get('sumT')));
      f.set(topS, get('largestS'));
      f.set(topT, get('largestT'));
      each((s, t, _keep, store) =>
        store(
          f32x4.sub(f32x4.mul(exp(f, f32x4.sub(s, topS)), dS), f32x4.mul(exp(f, f32x4.sub(t, topT)), dT)),
        ),
      );
    });
  return { squares, online, divergence, scoresGradient, relationsGradient };
}
