import type { Variable } from '../assembler.ts';
import { f32, f32x4, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Blocks, scoreRow } from './attention-tiles.ts';
import { type KernelContext, plus, reduce, splat, times } from './kernel.ts';
import { exp2 } from './math.ts';
import {
  append,
  type Candidates,
  close,
  eachOf,
  gather,
  groupMaxima,
  LOWEST_FLOAT,
  ordered,
  thresholdFunction,
} from './row-candidates.ts';

export type NormalizerKind = 'topK' | 'sparsemax' | 'entmax15';

const NEWTON_STEPS = 24;
/** Below every score: what a row without a key has for its largest. */
const NO_KEY = -1e30;

/** Where a row's results stand: 1 ÷ the sum of its weights (0 for a row without a key), how many there are, the weights. */
export const ROW_RESULT = { inverse: 0, count: 4, weights: 64 } as const;
const SPARE = 8;

/** Bytes behind a result's weights for rows of at most `S` keys: weights, their keys, and room to work in. */
export const rowResultBytes = (S: number, { key }: Blocks): number => {
  const scores = Math.ceil(S / key) * key;
  return ROW_RESULT.weights + 2 * (scores * 4 + 64) + scores * 2 + 4 * key + 64;
};

/**
 * Adds the function that turns a row of scores, from `s` to `end` in pieces of one block each, into a list of weights
 * above 0 and the keys that they are of, at `out`; a key stands `keys` bytes behind its weight. A bound from the largest
 * of groups leaves behind at once what cannot have a weight: all that follows looks at few.
 */
export function normalizeRow(context: KernelContext, blocks: Blocks, kind: NormalizerKind): number {
  const { module } = context;
  const find = kind === 'topK' ? thresholdFunction(context) : newtonFunction(context, kind);
  const parameters = {
    s: 'i32',
    end: 'i32',
    /** The list's entry of the first piece. */
    entries: 'i32',
    scale: 'f32',
    limit: 'i32',
    keys: 'i32',
    out: 'i32',
  } as const;
  return module.func(`normalize_${kind}`, parameters, (f, p) => {
    const cursor = f.local('i32');
    const [largest, sum, mask, bound] = f.localArray('v128', 4);
    const list: Candidates = {
      from: f.local('i32', plus(p.out, ROW_RESULT.weights)),
      end: f.local('i32'),
      keys: p.keys,
    };
    const maximaAt = f.local('i32', i32.add(list.from, times(p.keys, 2)));
    const spare = plus(p.out, SPARE);
    // log₂ e is in the scale for exp2; the others want natural units, and entmax half of them.
    const unit = kind === 'topK' ? 1 : kind === 'sparsemax' ? Math.LN2 : Math.LN2 / 2;
    const scale = f.local('v128', splat(f32.mul(p.scale, f32.const(unit))));
    const below = (x: V128): V128 => f32x4.mul(f32x4.sub(x, largest), scale);
    f.set(largest, f.constant(NO_KEY));
    const pieces = i32.div_u(i32.sub(p.end, p.s), i32.const(blocks.query * scoreRow(blocks)));
    // Lanes of a piece to 32 winners; the others' supports are of that size.
    const groups =
      kind === 'topK'
        ? i32.div_u(plus(p.limit, blocks.key / 2 - 1), i32.const(blocks.key / 2))
        : i32.div_u(plus(pieces, 64), i32.const(64));
    const maxima = groupMaxima(f, blocks, p, groups, maximaAt, largest);
    // A comparison that NaN fails says what is left out: NaN stays.
    if (kind === 'topK') {
      f.set(bound, f.constant(LOWEST_FLOAT));
      f.if(i32.ne(maxima.end, maxima.from), () => {
        const enough = i32.add(p.limit, i32.shr_u(p.limit, i32.const(3)));
        f.call(find, maxima.from, maxima.end, p.limit, enough, spare);
        f.set(bound, ordered(v128.load32_splat(spare)));
      });
      gather(f, blocks, p, p.entries, list, (x) => v128.not(f32x4.lt(x, bound)));
      close(f, list);
      keepLargest();
      f.set(sum, v128.zero);
      eachOf(list)(f, cursor, () => {
        f.set(mask, exp2(f, context.features, below(v128.load(cursor))));
        f.emit(v128.store(cursor, mask));
        f.set(sum, f32x4.add(sum, mask));
      });
    } else {
      const solve = ({ from, end }: Pick<Candidates, 'from' | 'end'>) => {
        f.call(find, from, end, f32x4.lane(scale, 0), f32x4.lane(largest, 0), spare);
        f.set(bound, v128.load32_splat(spare));
      };
      // The weights sum to 1, so that no threshold lies further than 1 below the largest.
      f.emit(f32.store(spare, f32.const(-1)));
      // Some of the scores have a threshold that is no larger than that of all.
      solve(maxima);
      gather(f, blocks, p, p.entries, list, (x) => v128.not(f32x4.le(below(x), bound)));
      close(f, list);
      solve(list);
      const x = f.local('v128');
      f.set(sum, v128.zero);
      filter(x, () => {
        f.set(x, f32x4.pmax(f32x4.sub(below(x), bound), v128.zero));
        if (kind === 'entmax15') f.set(x, f32x4.mul(x, x));
        f.set(sum, f32x4.add(sum, x));
        // Not equal to 0: NaN is a weight.
        f.set(mask, v128.not(f32x4.eq(x, v128.zero)));
      });
    }
    f.set(sum, reduce(f, [sum], f32x4.add));
    const inverse = v128.andnot(f32x4.div(f.constant(1), sum), f32x4.lt(sum, f.constant(1e-30)));
    f.emit(v128.store32_lane(p.out, inverse, 0, ROW_RESULT.inverse));
    f.emit(i32.store(p.out, i32.shr_u(i32.sub(list.end, list.from), i32.const(2)), ROW_RESULT.count));

    /** Keeps of the list what `picks` says, in place. */
    function filter(x: Variable<'v128'>, picks: () => void): void {
      const last = f.local('i32', list.end);
      f.set(last, list.end);
      f.set(list.end, list.from);
      f.for(cursor, list.from, last, 16, () => {
        f.set(x, v128.load(cursor));
        picks();
        append(f, list, x, mask, (lane) => i32.load(i32.add(cursor, p.keys), 4 * lane));
      });
    }

    /** The `limit` largest of the list; of equal ones those of the earlier keys. */
    function keepLargest(): void {
      const [low, free, bit] = f.localArray('i32', 3);
      const [x, level, equal] = f.localArray('v128', 3);
      f.if(i32.gt_u(i32.sub(list.end, list.from), times(p.limit, 4)), () => {
        f.call(find, list.from, list.end, p.limit, p.limit, spare);
        f.set(low, i32.load(spare));
        f.set(level, i32x4.splat(low));
        f.set(equal, v128.zero);
        eachOf(list)(f, cursor, () =>
          f.set(equal, i32x4.sub(equal, i32x4.gt_s(ordered(v128.load(cursor)), level))),
        );
        f.set(free, i32.sub(p.limit, i32x4.lane(reduce(f, [equal], i32x4.add), 0)));
        filter(x, () => {
          f.set(mask, i32x4.gt_s(ordered(x), level));
          f.set(equal, i32x4.eq(ordered(x), level));
          f.if(v128.any_true(equal), () => {
            for (let lane = 0; lane < 4; lane++) {
              f.set(bit, i32.and(i32x4.lane(equal, lane), i32.gt_s(free, i32.const(0))));
              f.if(bit, () => {
                f.increment(free, -1);
                const only = [0, 0, 0, 0];
                only[lane] = -1;
                f.set(mask, v128.or(mask, v128.i32x4(...only)));
              });
            }
          });
        });
        close(f, list);
      });
    }
  });
}

/**
 * Adds a function that finds the threshold at which the weights of a list (closed by −∞) sum to 1, from one that is no
 * larger, at `out`: Newton's steps from the left on a convex falling function reach its root without passing it.
 */
function newtonFunction({ module }: KernelContext, kind: 'sparsemax' | 'entmax15'): number {
  const parameters = { from: 'i32', end: 'i32', scale: 'f32', largest: 'f32', out: 'i32' } as const;
  return module.func('row_newton', parameters, (f, p) => {
    const [step, cursor] = f.localArray('i32', 2);
    const [sum, slope, weight] = f.localArray('v128', 3);
    const [scale, largest] = [f.local('v128', splat(p.scale)), f.local('v128', splat(p.largest))];
    const threshold = f.local('v128', v128.load32_splat(p.out));
    f.for(step, i32.const(0), i32.const(NEWTON_STEPS), 1, () => {
      f.set(sum, v128.zero);
      f.set(slope, v128.zero);
      eachOf(p)(f, cursor, () => {
        const below = f32x4.mul(f32x4.sub(v128.load(cursor), largest), scale);
        f.set(weight, f32x4.pmax(f32x4.sub(below, threshold), v128.zero));
        const [power, rate] =
          kind === 'sparsemax'
            ? [weight, v128.and(f32x4.gt(weight, v128.zero), f.constant(1))]
            : [f32x4.mul(weight, weight), f32x4.add(weight, weight)];
        f.set(sum, f32x4.add(sum, power));
        f.set(slope, f32x4.add(slope, rate));
      });
      f.set(sum, reduce(f, [sum], f32x4.add));
      f.set(slope, f32x4.pmax(reduce(f, [slope], f32x4.add), f.constant(1e-30)));
      f.set(sum, f32x4.div(f32x4.sub(sum, f.constant(1)), slope));
      // A list without a score has no weight to lower.
      f.set(sum, f32x4.pmax(sum, v128.zero));
      f.set(threshold, f32x4.add(threshold, sum));
      // No more than rounding is left to gain.
      f.if(i32.eqz(v128.any_true(f32x4.gt(sum, f.constant(2e-7)))), () =>
        f.set(step, i32.const(NEWTON_STEPS)),
      );
    });
    f.emit(v128.store32_lane(p.out, threshold, 0));
  });
}
