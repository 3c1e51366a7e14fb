import type { Activation } from '../../../../program/ops/activation.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32x4, i32, i32x4, type V128, v128 } from '../../instructions.ts';
import { eachVector, type Features, type Fields, kernel, multiplyAdd, times } from '../../kernels/kernel.ts';
import { erf, exp2, tanh } from '../../kernels/math.ts';

/**
 * A kernel over whole rows of tensors of one shape: `columns` floats a row, a unit one row. `body` makes the four
 * values of the output from those of the inputs.
 */
function rowsKernel<F extends Fields>(
  name: string,
  inputs: readonly string[],
  extra: F,
  body: (
    f: FunctionBuilder,
    features: Features,
    x: readonly V128[],
    at: { readonly [K in keyof F]: Variable<F[K]> },
  ) => V128,
) {
  const fields = { ...Object.fromEntries(inputs.map((i) => [i, 'i32'])), y: 'i32', columns: 'i32', ...extra };
  return kernel({
    name,
    fields: fields as Record<string, 'i32' | 'f32'>,
    build({ features }, f, at, begin, end) {
      const row = f.local('i32');
      const cursors = f.localArray('i32', inputs.length + 1);
      const columns = at.columns as Variable<'i32'>;
      f.for(row, begin, end, 1, () => {
        const step = i32.mul(row, times(columns, 4));
        for (const [i, c] of cursors.entries())
          f.set(c, i32.add(at[inputs[i] ?? 'y'] as Variable<'i32'>, step));
        eachVector(f, columns, cursors, 1, (lanes) =>
          lanes.store(
            cursors[inputs.length],
            body(
              f,
              features,
              inputs.map((_, i) => lanes.load(cursors[i])),
              at as never,
            ),
          ),
        );
      });
    },
  });
}

export const addKernel = rowsKernel('training_add', ['a', 'b'], {}, (_f, _features, [a, b]) =>
  f32x4.add(a, b),
);

/** dy · f′(x). */
export const activationGradientKernel = (activation: Activation) =>
  rowsKernel(`training_${activation}_gradient`, ['x', 'dy'], {}, (f, features, [x, dy]) =>
    f32x4.mul(dy, slope(f, features, activation, f.local('v128', x))),
  );

function slope(f: FunctionBuilder, features: Features, kind: Activation, x: Variable<'v128'>): V128 {
  const madd = multiplyAdd(features);
  const one = f.constant(1);
  if (kind === 'none') return one;
  if (kind === 'relu') return v128.and(one, f32x4.gt(x, v128.zero));
  if (kind === 'tanh') {
    const y = f.local('v128', tanh(f, features, x));
    return f32x4.sub(one, f32x4.mul(y, y));
  }
  if (kind === 'gelu') {
    const phi = exp2(f, features, f32x4.mul(f32x4.mul(x, x), f.constant(-0.5 * Math.LOG2E)));
    const density = f.local('v128', f32x4.mul(f32x4.mul(x, phi), f.constant(1 / Math.sqrt(2 * Math.PI))));
    return madd(
      erf(f, features, f32x4.mul(x, f.constant(Math.SQRT1_2))),
      f.constant(0.5),
      f32x4.add(density, f.constant(0.5)),
    );
  }
  // 0.5 (1 + h) + 0.5 x (1 − h²) (c + 3 · 0.044715 c x²), beyond ±10 where it is 0 or 1 to float32.
  const c = Math.sqrt(2 / Math.PI);
  const z = f.local('v128', f32x4.pmax(f32x4.pmin(x, f.constant(10)), f.constant(-10)));
  const square = f.local('v128', f32x4.mul(z, z));
  const h = f.local(
    'v128',
    tanh(f, features, f32x4.mul(z, madd(square, f.constant(0.044715 * c), f.constant(c)))),
  );
  const inner = madd(square, f.constant(3 * 0.044715 * c), f.constant(c));
  const rest = f32x4.mul(f32x4.mul(z, inner), f32x4.sub(one, f32x4.mul(h, h)));
  return f32x4.mul(f.constant(0.5), f32x4.add(f32x4.add(one, h), rest));
}

/** Elements of one unit of a dropout: whole vectors. */
export const DROPOUT_ELEMENTS = 1024;

/** Four elements' random bits: the finaliser of MurmurHash3 of key ^ i · golden ratio. */
function bits(f: FunctionBuilder, key: V128, index: V128): V128 {
  const x = f.local('v128');
  const fold = (by: number) => v128.xor(x, i32x4.shr_u(x, i32.const(by)));
  f.set(x, v128.xor(key, i32x4.mul(index, v128.i32x4(0x9e3779b9 | 0))));
  f.set(x, i32x4.mul(fold(16), v128.i32x4(0x85ebca6b | 0)));
  f.set(x, i32x4.mul(fold(13), v128.i32x4(0xc2b2ae35 | 0)));
  return fold(16);
}

/** A unit is `DROPOUT_ELEMENTS` elements. `seed` points at seed and step; their mixing with `place` is one hash. */
export const dropoutKernel = kernel({
  name: 'training_dropout',
  fields: {
    x: 'i32',
    y: 'i32',
    /** 0 for none. */
    residual: 'i32',
    seed: 'i32',
    count: 'i32',
    place: 'i32',
    threshold: 'i32',
    factor: 'f32',
  },
  build(_context, f, at, begin, end) {
    const [unit, x, y, r, left, hash] = f.localArray('i32', 6);
    const [key, index, kept, threshold] = f.localArray('v128', 4);
    const mix = (value: Variable<'i32'>) => {
      for (const [by, factor] of [
        [16, 0x85ebca6b],
        [13, 0xc2b2ae35],
        [16, 0],
      ]) {
        f.set(value, i32.xor(value, i32.shr_u(value, i32.const(by))));
        if (factor) f.set(value, i32.mul(value, i32.const(factor | 0)));
      }
    };
    f.set(hash, i32.load(at.seed));
    mix(hash);
    f.set(hash, i32.xor(hash, i32.load(at.seed, 4)));
    mix(hash);
    f.set(hash, i32.xor(hash, at.place));
    mix(hash);
    f.set(key, i32x4.splat(hash));
    f.set(threshold, i32x4.splat(at.threshold));
    f.for(unit, begin, end, 1, () => {
      f.set(left, i32.mul(unit, i32.const(DROPOUT_ELEMENTS)));
      f.set(index, i32x4.add(i32x4.splat(left), v128.i32x4(0, 1, 2, 3)));
      const from = times(left, 4);
      f.set(x, i32.add(at.x, from));
      f.set(y, i32.add(at.y, from));
      f.set(r, i32.add(at.residual, from));
      f.set(left, i32.min_s(i32.const(DROPOUT_ELEMENTS), i32.sub(at.count, left)));
      eachVector(f, left, [x, y, r], 1, (lanes) => {
        // Kept where bits ≥ threshold.
        f.set(kept, v128.not(i32x4.lt_s(bits(f, key, index), threshold)));
        f.set(kept, v128.and(kept, f32x4.mul(lanes.load(x), f32x4.splat(at.factor))));
        f.if(at.residual, () => f.set(kept, f32x4.add(kept, lanes.load(r))));
        lanes.store(y, kept);
        f.set(index, i32x4.add(index, v128.i32x4(4)));
      });
    });
  },
});
