import type { Variable } from '../../assembler.ts';
import { f32x4, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, type Kernel, kernel, reduce, splat, times } from '../../kernels/kernel.ts';
import { exp2 } from '../../kernels/math.ts';
import {
  type At,
  countRows,
  eachExponent,
  type FeatureVariant,
  FIELDS,
  halfNorm,
  inverseRoot,
  isProjected,
  LOWEST,
  rowsOf,
  scaleOf,
} from './feature-rows.ts';

/** φ of rows. A unit is one head of one sequence. */
export function featuresKernel(variant: FeatureVariant): Kernel {
  const { kind, normalise, keys } = variant;
  const projected = isProjected(variant);
  const halves = kind === 'hedgehog' ? ([1, -1] as const) : ([1] as const);
  return kernel({
    name: `training_features_${kind}`,
    fields: FIELDS,
    build({ features }, f, at: At, begin, end) {
      const [unit, rows, total] = f.localArray('i32', 3);
      const { row, eachRow } = rowsOf(f, features, at, unit, rows);
      const { x, phi, n, cursors } = row;
      const [top, sum] = f.localArray('v128', 2);
      const tops = f.localArray('v128', 2);
      const scale = f.local('v128', scaleOf(variant, at));
      const root = f.local('v128', inverseRoot(at.count));
      const exp = (v: V128) => exp2(f, features, f32x4.mul(v, v128.f32x4(Math.LOG2E)));

      /** Exponent of a feature: Wx / D^¼ − ‖x‖²/2√D, or ±Wx. */
      const exponent = (v: V128, half: V128): V128 =>
        kind === 'performer' ? f32x4.sub(f32x4.mul(v, scale), half) : v;
      const largest = (half: V128, into: Variable<'v128'>) => {
        eachExponent(
          row,
          phi,
          (v, _sign, _feature, keep) =>
            f.set(into, f32x4.pmax(into, keep(exponent(v, half), v128.f32x4(LOWEST)))),
          halves,
        );
        reduce(f, [into], f32x4.pmax);
      };

      const plainForward = () => {
        const [from, first, second] = cursors;
        f.set(from, x);
        f.set(first, phi);
        f.set(second, i32.add(phi, times(at.pitch, 4)));
        eachVector(f, at.pitch, [from, first, second], 1, (lanes) => {
          const v = f.local('v128', f32x4.pmax(lanes.load(from), v128.zero));
          const angle = i32.add(at.angles, times(n, 8));
          if (kind === 'relu') lanes.store(first, v);
          else {
            lanes.store(first, f32x4.mul(v, v128.load32_splat(angle)));
            lanes.store(second, f32x4.mul(v, v128.load32_splat(angle, 4)));
          }
        });
      };
      /** Each half of hedgehog's features a softmax. */
      const softmaxForward = () => {
        for (const sign of [1, -1] as const) {
          f.set(tops[0], v128.f32x4(LOWEST));
          const only = [sign] as const;
          eachExponent(
            row,
            phi,
            (v, _s, _p, keep) => f.set(tops[0], f32x4.pmax(tops[0], keep(v, v128.f32x4(LOWEST)))),
            only,
          );
          reduce(f, [tops[0]], f32x4.pmax);
          f.set(sum, v128.zero);
          eachExponent(
            row,
            phi,
            (v, _s, feature, keep) => {
              const p = f.local('v128', exp(f32x4.sub(v, tops[0])));
              feature.store(p);
              f.set(sum, f32x4.add(sum, keep(p, v128.zero)));
            },
            only,
          );
          reduce(f, [sum], f32x4.add);
          f.set(sum, f32x4.div(v128.f32x4(1), sum));
          eachExponent(row, phi, (_v, _s, feature) => feature.store(f32x4.mul(feature.load(), sum)), only);
        }
      };
      const exponentialForward = (c: V128) => {
        const half = kind === 'performer' ? halfNorm(row) : v128.zero;
        eachExponent(
          row,
          phi,
          (v, _sign, feature) => {
            const power = exp(f32x4.sub(exponent(v, half), c));
            feature.store(
              kind === 'performer' ? f32x4.mul(f32x4.add(power, splat(at.epsilon)), root) : power,
            );
          },
          halves,
        );
      };
      const ownTop = () => {
        f.set(top, v128.f32x4(LOWEST));
        largest(kind === 'performer' ? halfNorm(row) : v128.zero, top);
      };

      f.for(unit, begin, end, 1, () => {
        countRows(f, at, unit, rows);
        if (!projected) eachRow(plainForward);
        else if (normalise) eachRow(softmaxForward);
        else if (keys) {
          f.set(tops[1], v128.f32x4(LOWEST));
          eachRow(() => {
            ownTop();
            f.set(tops[1], f32x4.pmax(tops[1], top));
          });
          eachRow(() => exponentialForward(tops[1]));
        } else
          eachRow(() => {
            ownTop();
            exponentialForward(top);
          });
        // Rows that are not there have no features.
        f.set(phi, i32.add(at.phi, times(i32.mul(i32.add(i32.mul(unit, at.N), rows), at.count), 4)));
        f.set(total, i32.mul(i32.sub(at.N, rows), at.count));
        eachVector(f, total, [phi], 1, (lanes) => lanes.store(phi, v128.zero));
      });
    },
  }) as Kernel;
}
