import type { Variable } from '../../assembler.ts';
import { f32x4, type I32, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, type Kernel, kernel, reduce, splat, times } from '../../kernels/kernel.ts';
import {
  type At,
  countRows,
  type FeatureVariant,
  FIELDS,
  inverseRoot,
  isProjected,
  LOWEST,
  rowsOf,
  scaleOf,
} from './feature-rows.ts';

/** Gradients of x and of Wx by that of the features. A unit is one head of one sequence. */
export function featuresGradientKernel(variant: FeatureVariant): Kernel {
  const { kind, normalise, keys } = variant;
  const projected = isProjected(variant);
  return kernel({
    name: `training_features_${kind}_gradient`,
    fields: FIELDS,
    build({ features }, f, at: At, begin, end) {
      const [unit, rows, best, total] = f.localArray('i32', 4);
      const { row, eachRow } = rowsOf(f, features, at, unit, rows);
      const { x, phi, d, dx, de, n, cursors } = row;
      const [top, sum, least] = f.localArray('v128', 3);
      const tops = f.localArray('v128', 2);
      const scale = f.local('v128', scaleOf(variant, at));
      f.set(least, f32x4.mul(splat(at.epsilon), inverseRoot(at.count)));

      const plainBackward = () => {
        const [from, first, second, to] = cursors;
        f.set(from, x);
        f.set(first, d);
        f.set(second, i32.add(d, times(at.pitch, 4)));
        f.set(to, dx);
        eachVector(f, at.pitch, [from, first, second, to], 1, (lanes) => {
          const angle = i32.add(at.angles, times(n, 8));
          const g =
            kind === 'relu'
              ? lanes.load(first)
              : f32x4.add(
                  f32x4.mul(lanes.load(first), v128.load32_splat(angle)),
                  f32x4.mul(lanes.load(second), v128.load32_splat(angle, 4)),
                );
          lanes.store(to, v128.and(g, f32x4.gt(lanes.load(from), v128.zero)));
        });
      };

      /** (φ − least) · d into de, ± for halves; Σ of it into `sum`. */
      const exponentBackward = () => {
        const [first, second, from, to] = cursors;
        const means = tops;
        if (normalise)
          for (const [i, offset] of [i32.const(0), times(at.m, 4)].entries()) {
            f.set(means[i], v128.zero);
            f.set(first, i32.add(phi, offset));
            f.set(from, i32.add(d, offset));
            eachVector(f, at.m, [first, from], 1, (lanes) =>
              f.set(means[i], f32x4.add(means[i], f32x4.mul(lanes.load(first), lanes.load(from)))),
            );
            reduce(f, [means[i]], f32x4.add);
          }
        f.set(sum, v128.zero);
        f.set(first, phi);
        f.set(from, d);
        f.set(to, de);
        f.set(second, i32.add(phi, times(at.m, 4)));
        const other = f.local('i32');
        f.set(other, i32.add(d, times(at.m, 4)));
        eachVector(f, at.m, [first, from, to, second, other], 1, (lanes) => {
          const part = (p: V128, g: V128, mean: V128): V128 =>
            normalise ? f32x4.mul(p, f32x4.sub(g, mean)) : f32x4.mul(p, g);
          if (kind === 'performer') {
            const g = f.local('v128', f32x4.mul(f32x4.sub(lanes.load(first), least), lanes.load(from)));
            f.set(sum, f32x4.add(sum, lanes.keep(g)));
            lanes.store(to, f32x4.mul(g, scale));
          } else
            lanes.store(
              to,
              f32x4.sub(
                part(lanes.load(first), lanes.load(from), means[0]),
                part(lanes.load(second), lanes.load(other), means[1]),
              ),
            );
        });
        reduce(f, [sum], f32x4.add);
      };
      /** dx = −Σ · x / √D. */
      const normBackward = (by: V128) => {
        const [from, to] = cursors;
        f.set(from, x);
        f.set(to, dx);
        const factor = f.local('v128', f32x4.mul(f32x4.sub(v128.zero, by), inverseRoot(at.size)));
        eachVector(f, at.pitch, [from, to], 1, (lanes) =>
          lanes.store(to, f32x4.mul(lanes.load(from), factor)),
        );
      };
      /** Address of the largest feature of the row, if it is larger than the one before. */
      const findBest = () => {
        const [c] = cursors;
        f.for(c, phi, i32.add(phi, times(at.m, 4)), 4, () =>
          f.if(v128.any_true(f32x4.gt(v128.load32_splat(c), top)), () => {
            f.set(top, v128.load32_splat(c));
            f.set(best, i32.add(de, i32.sub(c, phi)));
            f.set(total, dx);
          }),
        );
      };
      /** Takes off the largest exponent what the stabiliser gives to all: Σ of them, of the row or of all. */
      const giveStabiliser = (given: V128) => {
        f.emit(v128.store32_lane(best, f32x4.sub(v128.load32_splat(best), f32x4.mul(given, scale)), 0));
      };

      const performerBackward = () => {
        if (!keys) {
          eachRow(() => {
            exponentBackward();
            f.set(top, v128.f32x4(LOWEST));
            findBest();
            giveStabiliser(sum);
            // All of a row's exponents move together: nothing is left for the norm.
            normBackward(v128.zero);
          });
          return;
        }
        const all = f.local('v128');
        f.set(all, v128.zero);
        f.set(top, v128.f32x4(LOWEST));
        f.set(best, i32.const(0));
        eachRow(() => {
          exponentBackward();
          f.set(all, f32x4.add(all, sum));
          normBackward(sum);
          findBest();
        });
        f.if(best, () => {
          giveStabiliser(all);
          // The largest exponent's own row: the norm is part of it.
          f.set(x, i32.add(at.x, i32.sub(total, at.dx)));
          const [from, to] = cursors;
          f.set(from, x);
          f.set(to, total);
          const factor = f.local('v128', f32x4.mul(all, inverseRoot(at.size)));
          eachVector(f, at.pitch, [from, to], 1, (lanes) =>
            lanes.store(to, f32x4.add(lanes.load(to), f32x4.mul(lanes.load(from), factor))),
          );
        });
      };

      const clearRest = (base: Variable<'i32'>, columns: I32) => {
        const [c] = cursors;
        f.set(c, i32.add(base, times(i32.mul(i32.add(i32.mul(unit, at.N), rows), columns), 4)));
        f.set(total, i32.mul(i32.sub(at.N, rows), columns));
        eachVector(f, total, [c], 1, (lanes) => lanes.store(c, v128.zero));
      };

      f.for(unit, begin, end, 1, () => {
        countRows(f, at, unit, rows);
        if (!projected) eachRow(plainBackward);
        else if (kind === 'performer') performerBackward();
        else
          eachRow(() => {
            exponentBackward();
            normBackward(v128.zero);
          });
        clearRest(at.dx, at.pitch);
        if (projected) clearRest(at.de, at.m);
      });
    },
  }) as Kernel;
}
