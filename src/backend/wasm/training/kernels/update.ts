import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, reduce, splat, times } from '../../kernels/kernel.ts';

/** Floats of one unit of work over flat memory. */
export const FLAT = 16384;

/** Σ x² of each `FLAT` floats of a block, into a vector; a unit is one of them. Lanes are summed apart for accuracy. */
export const squaresKernel = kernel({
  name: 'training_squares',
  fields: { x: 'i32', count: 'i32', squares: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, x, left, to] = f.localArray('i32', 4);
    const sums = f.localArray('v128', 4);
    f.for(unit, begin, end, 1, () => {
      f.set(left, i32.mul(unit, i32.const(FLAT)));
      f.set(x, i32.add(at.x, times(left, 4)));
      f.set(left, i32.min_s(i32.const(FLAT), i32.sub(at.count, left)));
      for (const s of sums) f.set(s, v128.zero);
      eachVector(f, left, [x], 4, (lanes) => {
        const v = f.local('v128', lanes.load(x));
        f.set(sums[lanes.slot], f32x4.add(sums[lanes.slot], f32x4.mul(v, v)));
      });
      f.set(to, i32.add(at.squares, times(unit, 4)));
      f.emit(v128.store32_lane(to, reduce(f, sums, f32x4.add), 0));
    });
  },
});

/** The square root of a vector's sum; one unit. */
export const rootKernel = kernel({
  name: 'training_root',
  fields: { squares: 'i32', count: 'i32', norm: 'i32' },
  build(_context, f, at, begin, end) {
    const [unit, x, last] = f.localArray('i32', 3);
    const sum = f.local('f32');
    f.for(unit, begin, end, 1, () => {
      f.set(sum, f32.const(0));
      f.set(last, i32.add(at.squares, times(at.count, 4)));
      f.for(x, at.squares, last, 4, () => f.set(sum, f32.add(sum, f32.load(x))));
      f.emit(f32.store(at.norm, f32.sqrt(sum)));
    });
  },
});

/** Where numbers of an update stand in its input. */
export const HYPER = ['beta1', 'beta2', 'epsilon', 'correction1', 'correction2', 'maxNorm'] as const;

/**
 * AdamW (Loshchilov and Hutter 2019, algorithm 2) over one parameter: p ← p − η (m̂ / (√v̂ + ε) + λ p), the gradient
 * first scaled to a norm of at most `maxNorm`. A unit is `FLAT` floats.
 */
export const adamWKernel = kernel({
  name: 'training_adamw',
  fields: {
    p: 'i32',
    g: 'i32',
    m: 'i32',
    v: 'i32',
    count: 'i32',
    hyper: 'i32',
    /** Learning rate and weight decay. */
    group: 'i32',
    norm: 'i32',
  },
  build(_context, f, at, begin, end) {
    const [unit, left, p, g, m, v, from] = f.localArray('i32', 7);
    const numbers = HYPER.map((_, i) => f.local('v128', v128.load32_splat(at.hyper, 4 * i)));
    const [beta1, beta2, epsilon, correction1, correction2, maxNorm] = numbers;
    const one = f.local('v128', v128.f32x4(1));
    const rate = f.local('v128', v128.load32_splat(at.group));
    const decay = f.local('v128', f32x4.mul(rate, v128.load32_splat(at.group, 4)));
    const norm = f.local('v128', splat(f32.load(at.norm)));
    // min(1, maxNorm / norm); a norm of 0 needs no scaling.
    const scale = f.local('v128', f32x4.div(maxNorm, f32x4.max(norm, maxNorm)));
    const [rest1, rest2] = [f.local('v128', f32x4.sub(one, beta1)), f.local('v128', f32x4.sub(one, beta2))];
    const [x, first, second] = f.localArray('v128', 3);
    f.for(unit, begin, end, 1, () => {
      f.set(left, i32.mul(unit, i32.const(FLAT)));
      f.set(from, times(left, 4));
      for (const [cursor, base] of [
        [p, at.p],
        [g, at.g],
        [m, at.m],
        [v, at.v],
      ])
        f.set(cursor, i32.add(base, from));
      f.set(left, i32.min_s(i32.const(FLAT), i32.sub(at.count, left)));
      eachVector(f, left, [p, g, m, v], 1, (lanes) => {
        f.set(x, f32x4.mul(lanes.load(g), scale));
        f.set(first, f32x4.add(f32x4.mul(beta1, lanes.load(m)), f32x4.mul(rest1, x)));
        f.set(second, f32x4.add(f32x4.mul(beta2, lanes.load(v)), f32x4.mul(rest2, f32x4.mul(x, x))));
        lanes.store(m, first);
        lanes.store(v, second);
        const root = f32x4.add(f32x4.sqrt(f32x4.mul(second, correction2)), epsilon);
        const step = f32x4.div(f32x4.mul(f32x4.mul(first, correction1), rate), root);
        f.set(x, lanes.load(p));
        lanes.store(p, f32x4.sub(f32x4.sub(x, f32x4.mul(x, decay)), step));
      });
    });
  },
});
