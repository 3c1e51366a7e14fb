import { LEAST_NORM, type RowLossKind } from '../../../../program/gradient/row-losses.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, type V128, v128 } from '../../instructions.ts';
import {
  eachVector,
  type Features,
  type Kernel,
  kernel,
  reduce,
  splat,
  times,
} from '../../kernels/kernel.ts';
import { exp2 } from '../../kernels/math.ts';
import { log } from './log.ts';

const FIELDS = {
  a: 'i32',
  b: 'i32',
  /** 0 where every row counts. */
  lengths: 'i32',
  /** Gradients of the rows' losses; not read by the losses. */
  d: 'i32',
  y: 'i32',
  N: 'i32',
  columns: 'i32',
  smoothing: 'f32',
  temperature: 'f32',
  divergence: 'i32',
} as const;
type At = { [K in keyof typeof FIELDS]: Variable<(typeof FIELDS)[K]> };

interface Row {
  readonly f: FunctionBuilder;
  readonly features: Features;
  readonly at: At;
  /** First bytes of the row in a and b. */
  readonly a: Variable<'i32'>;
  readonly b: Variable<'i32'>;
  /** Cursors. */
  readonly x: Variable<'i32'>;
  readonly y: Variable<'i32'>;
  /** The label, where b holds labels. */
  readonly label: Variable<'i32'>;
}

type Pair = (a: V128, b: V128) => V128;

/** Σ of `term` over the row; b is read where `both`. */
function sum({ f, at, a, b, x, y }: Row, both: boolean, term: Pair): Variable<'v128'> {
  const total = f.local('v128');
  f.set(total, v128.zero);
  f.set(x, a);
  f.set(y, b);
  eachVector(f, at.columns, both ? [x, y] : [x], 1, (lanes) => {
    const [left, right] = [lanes.load(x), both ? lanes.load(y) : v128.zero].map((v) => f.local('v128', v));
    f.set(total, f32x4.add(total, lanes.keep(term(left, right))));
  });
  return reduce(f, [total], f32x4.add);
}

/** Largest of x / T over one of the rows, and Σ exp(x / T − largest). */
function softmaxOf(
  row: Row,
  from: Variable<'i32'>,
): { largest: Variable<'v128'>; sum: Variable<'v128'>; scale: V128 } {
  const { f, at, x, features } = row;
  const scale = f.local('v128');
  f.set(scale, f32x4.div(v128.f32x4(1), splat(at.temperature)));
  const largest = f.local('v128');
  f.set(largest, v128.f32x4(-Infinity));
  f.set(x, from);
  eachVector(f, at.columns, [x], 1, (lanes) =>
    f.set(largest, f32x4.pmax(largest, lanes.keepOr(f32x4.mul(lanes.load(x), scale), v128.f32x4(-Infinity)))),
  );
  reduce(f, [largest], f32x4.pmax);
  const shifted = { ...row, a: from };
  const total = sum(shifted, false, (v) => power(f, features, f32x4.sub(f32x4.mul(v, scale), largest)));
  return { largest, sum: total, scale };
}

const power = (f: FunctionBuilder, features: Features, x: V128): V128 =>
  exp2(f, features, f32x4.mul(x, v128.f32x4(Math.LOG2E)));

/** How a row's loss is found, and the gradient's four values from those of a and b, in columns from `column` on. */
interface RowLossCode {
  loss(row: Row): V128;
  gradient(row: Row): (a: V128, b: V128, column: Variable<'v128'>) => V128;
}

const norms = (row: Row) => {
  const { f } = row;
  const least = v128.f32x4(LEAST_NORM);
  const dot = sum(row, true, f32x4.mul);
  const [a2, b2] = [sum(row, true, (a) => f32x4.mul(a, a)), sum(row, true, (_, b) => f32x4.mul(b, b))];
  const [na, nb] = [a2, b2].map((s) => f.local('v128', f32x4.max(f32x4.sqrt(s), least)));
  return { na, nb, cosine: f.local('v128', f32x4.div(dot, f32x4.mul(na, nb))) };
};

const CODE: Readonly<Record<RowLossKind, RowLossCode>> = {
  squaredError: {
    loss: (row) =>
      f32x4.div(
        sum(row, true, (a, b) => {
          const d = row.f.local('v128', f32x4.sub(a, b));
          return f32x4.mul(d, d);
        }),
        splat(f32.convert_i32_s(row.at.columns)),
      ),
    gradient({ f, at }) {
      const factor = f.local('v128', f32x4.div(v128.f32x4(2), splat(f32.convert_i32_s(at.columns))));
      return (a, b) => f32x4.mul(f32x4.sub(a, b), factor);
    },
  },
  cosineDistance: {
    loss: (row) => f32x4.sub(v128.f32x4(1), norms(row).cosine),
    gradient(row) {
      const { f } = row;
      const { na, nb, cosine } = norms(row);
      const byA = f.local('v128', f32x4.div(cosine, f32x4.mul(na, na)));
      const byB = f.local('v128', f32x4.div(v128.f32x4(1), f32x4.mul(na, nb)));
      return (a, b) => f32x4.sub(f32x4.mul(a, byA), f32x4.mul(b, byB));
    },
  },
  crossEntropy: {
    loss(row) {
      const { f, at, a, label } = row;
      const { largest, sum: total, scale } = softmaxOf(row, a);
      const mean = f.local(
        'v128',
        f32x4.div(
          sum(row, false, (v) => f32x4.mul(v, scale)),
          splat(f32.convert_i32_s(at.columns)),
        ),
      );
      // −(1 − s) (a[label] − lse) − s (mean − lse)
      const lse = f.local('v128', f32x4.add(log(f, total), largest));
      const chosen = f.local('v128', f32x4.mul(v128.load32_splat(i32.add(a, times(label, 4))), scale));
      const blend = f32x4.add(chosen, f32x4.mul(splat(at.smoothing), f32x4.sub(mean, chosen)));
      return f32x4.sub(lse, blend);
    },
    gradient(row) {
      const { f, at, a, label, features } = row;
      const { largest, sum: total, scale } = softmaxOf(row, a);
      const inverse = f.local('v128', f32x4.div(v128.f32x4(1), total));
      const target = f.local('v128', f32x4.sub(v128.f32x4(1), splat(at.smoothing)));
      const spread = f.local('v128', f32x4.div(splat(at.smoothing), splat(f32.convert_i32_s(at.columns))));
      return (x, _b, column) => {
        const p = f32x4.mul(power(f, features, f32x4.sub(f32x4.mul(x, scale), largest)), inverse);
        const wanted = v128.and(target, i32x4.eq(column, i32x4.splat(label)));
        return f32x4.mul(f32x4.sub(f32x4.sub(p, spread), wanted), scale);
      };
    },
  },
  softCrossEntropy: {
    loss(row) {
      const { f, at, a, b, features } = row;
      const student = softmaxOf(row, a);
      const teacher = softmaxOf(row, b);
      const lse = (s: typeof student) => f.local('v128', f32x4.add(log(f, s.sum), s.largest));
      const [lseA, lseB] = [lse(student), lse(teacher)];
      const kept = f.local('v128', i32x4.splat(at.divergence));
      const total = sum(row, true, (x, y) => {
        const scaled = f.local('v128', f32x4.mul(y, teacher.scale));
        const q = power(f, features, f32x4.sub(scaled, teacher.largest));
        const entropy = v128.and(kept, f32x4.sub(scaled, lseB));
        return f32x4.mul(q, f32x4.sub(entropy, f32x4.sub(f32x4.mul(x, student.scale), lseA)));
      });
      return f32x4.mul(
        f32x4.div(total, teacher.sum),
        f32x4.mul(splat(at.temperature), splat(at.temperature)),
      );
    },
    gradient(row) {
      const { f, at, a, b, features } = row;
      const student = softmaxOf(row, a);
      const teacher = softmaxOf(row, b);
      const factor = (s: typeof student) => f.local('v128', f32x4.div(splat(at.temperature), s.sum));
      const [byStudent, byTeacher] = [factor(student), factor(teacher)];
      const share = (v: V128, s: typeof student, by: V128) =>
        f32x4.mul(power(f, features, f32x4.sub(f32x4.mul(v, s.scale), s.largest)), by);
      return (x, y) => f32x4.sub(share(x, student, byStudent), share(y, teacher, byTeacher));
    },
  },
};

/** A unit is one row; y is the rows' `[…, 2]`, or the gradient by a. */
export const rowLossKernel = (kind: RowLossKind, gradient: boolean): Kernel =>
  kernel({
    name: `training_${kind}${gradient ? '_gradient' : ''}`,
    fields: FIELDS,
    build({ features }, f, at: At, begin, end) {
      const labelled = kind === 'crossEntropy';
      const [r, a, b, x, y, to, label, counts] = f.localArray('i32', 8);
      const [column, d, value] = f.localArray('v128', 3);
      const row: Row = { f, features, at, a, b, x, y, label };
      f.for(r, begin, end, 1, () => {
        const bytes: I32 = times(at.columns, 4);
        f.set(a, i32.add(at.a, i32.mul(r, bytes)));
        f.set(b, labelled ? i32.const(0) : i32.add(at.b, i32.mul(r, bytes)));
        f.set(counts, i32.const(1));
        if (labelled) {
          f.set(label, i32.load(i32.add(at.b, times(r, 4))));
          f.set(counts, i32.ge_s(label, i32.const(0)));
        }
        f.if(at.lengths, () => {
          const length = i32.load(i32.add(at.lengths, times(i32.div_u(r, at.N), 4)));
          f.set(counts, i32.and(counts, i32.lt_s(i32.rem_u(r, at.N), length)));
        });
        f.set(to, i32.add(at.y, gradient ? i32.mul(r, bytes) : times(r, 8)));
        f.if(
          counts,
          () => {
            if (!gradient) {
              f.set(value, CODE[kind].loss(row));
              f.emit(v128.store32_lane(to, value, 0));
              f.emit(v128.store32_lane(to, v128.f32x4(1), 0, 4));
              return;
            }
            const of = CODE[kind].gradient(row);
            f.set(d, v128.load32_splat(i32.add(at.d, times(r, 8))));
            f.set(column, v128.i32x4(0, 1, 2, 3));
            f.set(x, a);
            f.set(y, b);
            eachVector(f, at.columns, labelled ? [x, to] : [x, y, to], 1, (lanes) => {
              lanes.store(to, f32x4.mul(of(lanes.load(x), labelled ? v128.zero : lanes.load(y), column), d));
              f.set(column, i32x4.add(column, v128.i32x4(4)));
            });
          },
          () => {
            if (!gradient) {
              f.emit(v128.store32_lane(to, v128.zero, 0));
              f.emit(v128.store32_lane(to, v128.zero, 0, 4));
            } else eachVector(f, at.columns, [to], 1, (lanes) => lanes.store(to, v128.zero));
          },
        );
      });
    },
  }) as Kernel;

/** 0, 1, 2 …; a unit is one row. */
export const rowNumbersKernel = kernel({
  name: 'training_row_numbers',
  fields: { y: 'i32' },
  build(_context, f, at, begin, end) {
    const r = f.local('i32');
    f.for(r, begin, end, 1, () => f.emit(i32.store(i32.add(at.y, times(r, 4)), r)));
  },
});

/** Mean of rows `[…, 2]` and the inverse of their weights' sum; one unit. */
export const meanRowsKernel = kernel({
  name: 'training_mean_rows',
  fields: { rows: 'i32', count: 'i32', mean: 'i32', inverse: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, x, last] = f.localArray('i32', 3);
    const [total, weight, inverse] = f.localArray('f32', 3);
    f.for(unit, begin, end, 1, () => {
      f.set(total, f32.const(0));
      f.set(weight, f32.const(0));
      f.set(last, i32.add(at.rows, times(at.count, 8)));
      f.for(x, at.rows, last, 8, () => {
        f.set(total, f32.add(total, f32.load(x)));
        f.set(weight, f32.add(weight, f32.load(x, 4)));
      });
      // Weights are whole: no row means no loss.
      f.set(inverse, f32.div(f32.min(weight, f32.const(1)), f32.max(weight, f32.const(1))));
      f.emit(f32.store(at.inverse, inverse));
      f.emit(f32.store(at.mean, f32.mul(total, inverse)));
    });
  },
});

/** `rows[r] = (inverse · d, 0)`; a unit is one row. */
export const meanRowsGradientKernel = kernel({
  name: 'training_mean_rows_gradient',
  fields: { inverse: 'i32', d: 'i32', rows: 'i32' },
  build(_context, f, at, begin, end) {
    const [r, to] = f.localArray('i32', 2);
    const value = f.local('f32', f32.mul(f32.load(at.inverse), f32.load(at.d)));
    f.for(r, begin, end, 1, () => {
      f.set(to, i32.add(at.rows, times(r, 8)));
      f.emit(f32.store(to, value));
      f.emit(f32.store(to, f32.const(0), 4));
    });
  },
});

/** `y = x · weight`, or added to y; one unit. */
export const weightedSumKernel = kernel({
  name: 'training_weighted_sum',
  fields: { x: 'i32', y: 'i32', weight: 'f32', add: 'i32' },
  build(_context, f, at, begin, end) {
    const unit = f.local('i32');
    const value = f.local('f32');
    f.for(unit, begin, end, 1, () => {
      f.set(value, f32.mul(f32.load(at.x), at.weight));
      f.if(at.add, () => f.set(value, f32.add(value, f32.load(at.y))));
      f.emit(f32.store(at.y, value));
    });
  },
});
