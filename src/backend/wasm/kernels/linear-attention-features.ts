import { f32x4, i32, type V128, v128 } from '../instructions.ts';
import { type KernelContext, plus, reduce, splat, times } from './kernel.ts';
import { PANEL_BYTES } from './linear-attention-tiles.ts';
import { exp2 } from './math.ts';

/** Below every exponent: the largest one before the first key. */
export const NO_EXPONENT = -1e30;

/**
 * Rows `[pitch]` times `scale` to `out`, and the offset of each row's exponents, `factor` times its squared norm;
 * the largest exponent of each row begins anew.
 */
export function prepareRows({ module }: KernelContext, pitch: number): number {
  return module.func(
    `linear_prepare_${pitch}`,
    { x: 'i32', out: 'i32', offsets: 'i32', largest: 'i32', count: 'i32', scale: 'f32', factor: 'f32' },
    (f, p) => {
      const scale = f.local('v128', splat(p.scale));
      const factor = f.local('v128', splat(p.factor));
      const none = f.local('v128', v128.f32x4(NO_EXPONENT));
      const squares = f.localArray('v128', 2);
      const x = f.local('v128');
      const end = f.local('i32');
      f.while(
        () => p.count,
        () => {
          for (const s of squares) f.set(s, v128.zero);
          f.set(end, plus(p.x, pitch * 4));
          f.doWhile(
            () => {
              for (let j = 0; j < 2; j++) {
                f.set(x, f32x4.mul(v128.load(p.x, 16 * j), scale));
                f.emit(v128.store(p.out, x, 16 * j));
                f.set(squares[j], f32x4.add(squares[j], f32x4.mul(x, x)));
              }
              f.increment(p.x, 32);
              f.increment(p.out, 32);
            },
            () => i32.lt_u(p.x, end),
          );
          const norm = reduce(f, squares, f32x4.add);
          f.emit(v128.store32_lane(p.offsets, f32x4.mul(norm, factor), 0));
          f.emit(v128.store(p.largest, none));
          f.increment(p.offsets, 4);
          f.increment(p.largest, 16);
          f.increment(p.count, -1);
        },
      );
    },
  );
}

/** The largest exponent of each row into all of its four lanes; with `shared`, that of all rows and of `least`. */
export function stabilisers({ module }: KernelContext, shared: boolean): number {
  return module.func(
    `linear_stabilisers_${shared ? 'keys' : 'queries'}`,
    { largest: 'i32', count: 'i32', least: 'i32' },
    (f, p) => {
      const i = f.local('i32');
      const end = f.local('i32', i32.add(p.largest, times(p.count, 16)));
      const top = f.local('v128');
      if (!shared) {
        f.for(i, p.largest, end, 16, () => {
          f.set(top, v128.load(i));
          f.emit(v128.store(i, reduce(f, [top], f32x4.pmax)));
        });
        return;
      }
      f.set(top, v128.load32_splat(p.least));
      f.for(i, p.largest, end, 16, () => f.set(top, f32x4.pmax(top, v128.load(i))));
      reduce(f, [top], f32x4.pmax);
      f.for(i, p.largest, end, 16, () => f.emit(v128.store(i, top)));
      f.emit(v128.store32_lane(p.least, top, 0));
    },
  );
}

/**
 * The exponents of a panel become 2^(e − largest) + `epsilon`, row by row; with `mirrored` the panel `mirror` gets
 * 2^(−e − largest) too.
 */
export function exponentials({ module, features }: KernelContext, mirrored: boolean): number {
  return module.func(
    `linear_exp_${mirrored ? 'mirrored' : 'plain'}`,
    { panel: 'i32', mirror: 'i32', largest: 'i32', count: 'i32', epsilon: 'f32' },
    (f, p) => {
      const end = f.local('i32', i32.add(p.panel, times(p.count, 32)));
      const epsilon = f.local('v128', splat(p.epsilon));
      const [top, x] = f.localArray('v128', 2);
      f.while(
        () => i32.lt_u(p.panel, end),
        () => {
          f.set(top, v128.load(p.largest));
          for (let j = 0; j < 2; j++) {
            f.set(x, v128.load(p.panel, 16 * j));
            const power = (e: V128) => exp2(f, features, f32x4.sub(e, top));
            if (mirrored) f.emit(v128.store(p.mirror, power(f32x4.sub(v128.zero, x)), 16 * j));
            f.emit(v128.store(p.panel, mirrored ? power(x) : f32x4.add(power(x), epsilon), 16 * j));
          }
          f.increment(p.panel, 32);
          if (mirrored) f.increment(p.mirror, 32);
          f.increment(p.largest, 16);
        },
      );
    },
  );
}

/** Exponents e of `count` rows, `panels` panels: softmax(e) in place, softmax(−e) in as many panels behind. */
export function softmaxHalves({ module, features }: KernelContext, panels: number): number {
  const bytes = panels * PANEL_BYTES;
  return module.func(`linear_halves_${panels}`, { phi: 'i32', count: 'i32' }, (f, p) => {
    const i = f.local('i32');
    const end = f.local('i32');
    const [low, high, x] = f.localArray('v128', 3);
    const tops = f.localArray('v128', 2);
    const sums = f.localArray('v128', 2);
    const each = (body: (at: number) => void) =>
      f.for(i, p.phi, end, PANEL_BYTES, () => {
        for (let j = 0; j < 2; j++) body(16 * j);
      });
    f.while(
      () => p.count,
      () => {
        f.set(end, plus(p.phi, bytes));
        f.set(low, v128.f32x4(Infinity));
        f.set(high, v128.f32x4(-Infinity));
        each((at) => {
          f.set(low, f32x4.pmin(low, v128.load(i, at)));
          f.set(high, f32x4.pmax(high, v128.load(i, at)));
        });
        f.set(tops[0], reduce(f, [high], f32x4.pmax));
        f.set(tops[1], f32x4.sub(v128.zero, reduce(f, [low], f32x4.pmin)));
        for (const s of sums) f.set(s, v128.zero);
        each((at) => {
          f.set(low, v128.load(i, at));
          for (const half of [0, 1]) {
            const e = half ? f32x4.sub(v128.zero, low) : low;
            f.set(x, exp2(f, features, f32x4.sub(e, tops[half])));
            f.emit(v128.store(i, x, at + half * bytes));
            f.set(sums[half], f32x4.add(sums[half], x));
          }
        });
        for (const s of sums) f.set(s, f32x4.div(v128.f32x4(1), reduce(f, [s], f32x4.add)));
        each((at) => {
          for (const half of [0, 1])
            f.emit(v128.store(i, f32x4.mul(v128.load(i, at + half * bytes), sums[half]), at + half * bytes));
        });
        f.increment(p.phi, 32);
        f.increment(p.count, -1);
      },
    );
  });
}

/**
 * max(x, 0) of `count` rows into panels of features; with `angled` times the first number of each row of `angles` into
 * the first half of the panels, and times the second into the other.
 */
export function rectified({ module }: KernelContext, pitch: number, angled: boolean): number {
  const panels = pitch / 8;
  return module.func(
    `linear_relu_${pitch}_${angled ? 'angled' : 'plain'}`,
    { x: 'i32', phi: 'i32', count: 'i32', angles: 'i32' },
    (f, p) => {
      const x = f.local('v128');
      const angle = f.localArray('v128', 2);
      f.while(
        () => p.count,
        () => {
          if (angled) for (const half of [0, 1]) f.set(angle[half], v128.load32_splat(p.angles, 4 * half));
          for (let v = 0; v < pitch / 4; v++) {
            const to = (v >> 1) * PANEL_BYTES + (v & 1) * 16;
            f.set(x, f32x4.pmax(v128.load(p.x, 16 * v), v128.zero));
            if (angled)
              for (const half of [0, 1])
                f.emit(v128.store(p.phi, f32x4.mul(x, angle[half]), to + half * panels * PANEL_BYTES));
            else f.emit(v128.store(p.phi, x, to));
          }
          f.increment(p.x, pitch * 4);
          f.increment(p.phi, 32);
          f.increment(p.angles, 8);
          f.increment(p.count, -1);
        },
      );
    },
  );
}
