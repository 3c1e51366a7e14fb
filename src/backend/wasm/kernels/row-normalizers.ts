import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Blocks, scoreRow } from './attention-tiles.ts';
import { type KernelContext, plus, reduce, splat } from './kernel.ts';
import { exp2 } from './math.ts';

export type NormalizerKind = 'topK' | 'sparsemax' | 'entmax15';

const NEWTON_STEPS = 24;
/** Below every score: what a row without a key has for its largest. */
const NO_KEY = -1e30;

/** Walks one row of scores, which lies in pieces of one block each. */
type EachVector = (body: (x: V128, store: (x: V128) => void) => void) => void;

/** Floats as whole numbers of the same order. */
const ordered = (x: V128): V128 =>
  v128.xor(x, v128.and(i32x4.shr_s(x, i32.const(31)), v128.i32x4(0x7fffffff)));

const total = (f: FunctionBuilder, x: Variable<'v128'>): Variable<'v128'> => reduce(f, [x], f32x4.add);

/**
 * Adds the function that turns a row of scores, from `s` to `end` in pieces, into weights in place. `stats` receives
 * 1 ÷ their sum (0 for a row without a key) and how many are not 0.
 */
export function normalizeRow(
  { module, features }: KernelContext,
  blocks: Blocks,
  kind: NormalizerKind,
): number {
  const PIECE = blocks.query * scoreRow(blocks);
  return module.func(
    `normalize_${kind}`,
    { s: 'i32', end: 'i32', scale: 'f32', limit: 'i32', stats: 'i32' },
    (f, p) => {
      const [piece, cursor] = f.localArray('i32', 2);
      const [largest, sum, count, threshold, weight] = f.localArray('v128', 5);
      const each: EachVector = (body) =>
        f.for(piece, p.s, p.end, PIECE, () => {
          f.set(cursor, piece);
          f.for(cursor, piece, plus(piece, scoreRow(blocks)), 16, () =>
            body(v128.load(cursor), (x) => f.emit(v128.store(cursor, x))),
          );
        });
      // log₂ e is in the scale for exp2; the others want natural units, and entmax half of them.
      const unit = kind === 'topK' ? 1 : kind === 'sparsemax' ? Math.LN2 : Math.LN2 / 2;
      const scale = f.local('v128', splat(f32.mul(p.scale, f32.const(unit))));
      f.set(largest, f.constant(NO_KEY));
      each((x) => f.set(largest, f32x4.pmax(largest, x)));
      f.set(largest, reduce(f, [largest], f32x4.pmax));
      f.set(sum, v128.zero);
      f.set(count, v128.zero);
      if (kind === 'topK') topK(features, f, p.limit, each, largest, scale, sum, count, weight);
      else newton();
      f.set(sum, total(f, sum));
      f.set(count, reduce(f, [count], i32x4.add));
      const inverse = v128.andnot(f32x4.div(f.constant(1), sum), f32x4.lt(sum, f.constant(1e-30)));
      f.emit(v128.store32_lane(p.stats, inverse, 0));
      f.emit(v128.store32_lane(p.stats, f32x4.convert_i32x4_s(count), 0, 4));

      /** Newton's steps from the left on a convex falling function reach its root without passing it. */
      function newton(): void {
        const above = (x: V128) =>
          f32x4.pmax(f32x4.sub(f32x4.mul(f32x4.sub(x, largest), scale), threshold), v128.zero);
        const power = (x: V128): V128 => (kind === 'sparsemax' ? x : f32x4.mul(x, x));
        f.set(threshold, f.constant(-1));
        const step = f.local('i32');
        const slope = f.local('v128');
        f.for(step, i32.const(0), i32.const(NEWTON_STEPS), 1, () => {
          f.set(sum, v128.zero);
          f.set(slope, v128.zero);
          each((x) => {
            f.set(weight, above(x));
            f.set(sum, f32x4.add(sum, power(weight)));
            const rate =
              kind === 'sparsemax'
                ? v128.and(f32x4.gt(weight, v128.zero), f.constant(1))
                : f32x4.add(weight, weight);
            f.set(slope, f32x4.add(slope, rate));
          });
          f.set(sum, total(f, sum));
          f.set(slope, f32x4.pmax(total(f, slope), f.constant(1e-30)));
          f.set(sum, f32x4.div(f32x4.sub(sum, f.constant(1)), slope));
          f.set(threshold, f32x4.add(threshold, sum));
          // No more than rounding is left to gain.
          f.if(i32.eqz(v128.any_true(f32x4.gt(sum, f.constant(2e-7)))), () =>
            f.set(step, i32.const(NEWTON_STEPS)),
          );
        });
        f.set(sum, v128.zero);
        each((x, store) => {
          f.set(weight, power(above(x)));
          store(weight);
          f.set(sum, f32x4.add(sum, weight));
          f.set(count, i32x4.sub(count, f32x4.gt(weight, v128.zero)));
        });
      }
    },
  );
}

/** Keeps the `limit` largest of a row: the threshold by bisection on the order of floats, ties in order of keys. */
function topK(
  features: KernelContext['features'],
  f: FunctionBuilder,
  limit: I32,
  each: EachVector,
  largest: V128,
  scale: V128,
  sum: Variable<'v128'>,
  count: Variable<'v128'>,
  weight: Variable<'v128'>,
): void {
  const [low, high, middle, free, bit] = f.localArray('i32', 5);
  const [keys, mask] = f.localArray('v128', 2);
  // Everything finite lies above −∞: the smallest threshold keeps all of it.
  f.set(low, i32.const((0xff800000 ^ 0x7fffffff) + 1));
  f.set(high, i32.const(0x7f800001));
  const larger = (than: I32, orEqual: boolean): I32 => {
    f.set(count, v128.zero);
    f.set(mask, i32x4.splat(than));
    each((x) => {
      const order = ordered(x);
      f.set(count, i32x4.sub(count, orEqual ? v128.not(i32x4.lt_s(order, mask)) : i32x4.gt_s(order, mask)));
    });
    f.set(count, reduce(f, [count], i32x4.add));
    return i32x4.lane(count, 0);
  };
  // The largest threshold that still keeps `limit`, or the smallest of all.
  f.while(
    // Unsigned: the distance may pass 2³¹.
    () => i32.gt_u(i32.sub(high, low), i32.const(1)),
    () => {
      f.set(
        middle,
        i32.add(
          i32.add(i32.shr_s(low, i32.const(1)), i32.shr_s(high, i32.const(1))),
          i32.and(i32.and(low, high), i32.const(1)),
        ),
      );
      f.if(
        i32.ge_s(larger(middle, true), limit),
        () => f.set(low, middle),
        () => f.set(high, middle),
      );
    },
  );
  f.set(free, i32.sub(limit, larger(low, false)));
  f.set(count, v128.zero);
  each((x, store) => {
    f.set(keys, ordered(x));
    f.set(mask, i32x4.gt_s(keys, i32x4.splat(low)));
    f.set(keys, i32x4.eq(keys, i32x4.splat(low)));
    f.if(v128.any_true(keys), () => {
      for (let lane = 0; lane < 4; lane++) {
        f.set(bit, i32.and(i32x4.lane(keys, lane), i32.gt_s(free, i32.const(0))));
        f.if(bit, () => {
          f.increment(free, -1);
          const only = [0, 0, 0, 0];
          only[lane] = -1;
          f.set(mask, v128.or(mask, v128.i32x4(...only)));
        });
      }
    });
    f.set(weight, v128.and(exp2(f, features, f32x4.mul(f32x4.sub(x, largest), scale)), mask));
    store(weight);
    f.set(sum, f32x4.add(sum, weight));
    f.set(count, i32x4.sub(count, mask));
  });
}
