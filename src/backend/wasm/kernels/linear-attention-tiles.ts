import { f32x4, i32, v128 } from '../instructions.ts';
import { type KernelContext, multiplyAdd, plus, splat, times } from './kernel.ts';

/** Rows of one block of queries or keys; the heights of tiles divide it. */
export const ROWS = 48;
/** Bytes of one panel of features: 8 features of each row of a block, row by row. */
export const PANEL_BYTES = ROWS * 32;

/** Rows of a tile: what this device does best among the divisors of a block. */
export const tileRows = ({ tiles }: KernelContext): number =>
  [8, 6, 4, 3].find((rows) => rows <= tiles.float32) ?? 3;

/**
 * `rows` × 8 products of rows a `[rows, depth]`, one after another, with a panel b `[depth][8]`; rows of c stand
 * `pitch` bytes apart. With `maximum`, products start from −`offsets` and the largest of each row is kept, four
 * lanes a row; of magnitudes where that is `absolute`.
 */
export function rowTile(
  { module, features }: KernelContext,
  depth: number,
  rows: number,
  pitch: number,
  maximum: 'none' | 'signed' | 'absolute',
): number {
  const madd = multiplyAdd(features);
  const UNROLL = 4;
  return module.func(
    `linear_rows_${depth}_${pitch}_${maximum}`,
    { a: 'i32', b: 'i32', c: 'i32', offsets: 'i32', largest: 'i32' },
    (f, p) => {
      const acc = f.localArray('v128', rows * 2);
      const b = f.localArray('v128', 2);
      const a = f.local('v128');
      const end = f.local('i32', plus(p.a, depth * 4));
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < 2; j++)
          f.set(
            acc[2 * i + j],
            maximum === 'signed' ? f32x4.sub(v128.zero, v128.load32_splat(p.offsets, 4 * i)) : v128.zero,
          );
      f.doWhile(
        () => {
          for (let k = 0; k < UNROLL; k++) {
            for (let j = 0; j < 2; j++) f.set(b[j], v128.load(p.b, 32 * k + 16 * j));
            for (let i = 0; i < rows; i++) {
              f.set(a, v128.load32_splat(p.a, (i * depth + k) * 4));
              for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(a, b[j], acc[2 * i + j]));
            }
          }
          f.increment(p.b, 32 * UNROLL);
          f.increment(p.a, 4 * UNROLL);
        },
        () => i32.lt_u(p.a, end),
      );
      for (let i = 0; i < rows; i++) {
        const [low, high] = acc.slice(2 * i, 2 * i + 2);
        f.emit(v128.store(p.c, low, i * pitch));
        f.emit(v128.store(p.c, high, i * pitch + 16));
        if (maximum === 'none') continue;
        const size = maximum === 'absolute' ? f32x4.abs : (x: typeof low) => x;
        f.emit(
          v128.store(
            p.largest,
            f32x4.pmax(v128.load(p.largest, 16 * i), f32x4.pmax(size(low), size(high))),
            16 * i,
          ),
        );
      }
    },
  );
}

/** A panel of the state, `[8 features][8 columns]` in halves of 4 features: + φᵀ · values over `count` rows. */
export function stateTile({ module, features }: KernelContext, pitch: number): number {
  const madd = multiplyAdd(features);
  return module.func(
    `linear_state_${pitch}`,
    { phi: 'i32', v: 'i32', state: 'i32', count: 'i32' },
    (f, p) => {
      const acc = f.localArray('v128', 8);
      const value = f.localArray('v128', 2);
      const phi = f.local('v128');
      const end = f.local('i32', i32.add(p.phi, times(p.count, 32)));
      for (let i = 0; i < 8; i++) f.set(acc[i], v128.load(p.state, 16 * i));
      f.doWhile(
        () => {
          for (let j = 0; j < 2; j++) f.set(value[j], v128.load(p.v, 16 * j));
          for (let i = 0; i < 4; i++) {
            f.set(phi, v128.load32_splat(p.phi, 4 * i));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(phi, value[j], acc[2 * i + j]));
          }
          f.increment(p.v, pitch * 4);
          f.increment(p.phi, 32);
        },
        () => i32.lt_u(p.phi, end),
      );
      for (let i = 0; i < 8; i++) f.emit(v128.store(p.state, acc[i], 16 * i));
    },
  );
}

/** `rows` × 8 outputs: features, panel after panel, times a panel of the state `[M][8]`. */
export function outputTile(
  { module, features }: KernelContext,
  M: number,
  rows: number,
  pitch: number,
): number {
  const madd = multiplyAdd(features);
  return module.func(`linear_output_${M}_${pitch}`, { phi: 'i32', state: 'i32', o: 'i32' }, (f, p) => {
    const acc = f.localArray('v128', rows * 2, v128.zero);
    const state = f.localArray('v128', 2);
    const phi = f.local('v128');
    const end = f.local('i32', plus(p.state, M * 32));
    f.doWhile(
      () => {
        for (let k = 0; k < 8; k++) {
          for (let j = 0; j < 2; j++) f.set(state[j], v128.load(p.state, 32 * k + 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(phi, v128.load32_splat(p.phi, 32 * i + 4 * k));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], madd(phi, state[j], acc[2 * i + j]));
          }
        }
        f.increment(p.phi, PANEL_BYTES);
        f.increment(p.state, 256);
      },
      () => i32.lt_u(p.state, end),
    );
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < 2; j++) f.emit(v128.store(p.o, acc[2 * i + j], i * pitch * 4 + 16 * j));
  });
}

/** Eight sums: + the columns of `count` rows that stand `step` bytes apart. */
export function columnSums({ module }: KernelContext): number {
  return module.func('linear_sums', { rows: 'i32', step: 'i32', count: 'i32', sums: 'i32' }, (f, p) => {
    const acc = f.localArray('v128', 4, v128.zero);
    const row = (k: number) => {
      for (let j = 0; j < 2; j++) f.set(acc[2 * k + j], f32x4.add(acc[2 * k + j], v128.load(p.rows, 16 * j)));
      f.set(p.rows, i32.add(p.rows, p.step));
    };
    f.while(
      () => i32.ge_s(p.count, i32.const(2)),
      () => {
        row(0);
        row(1);
        f.increment(p.count, -2);
      },
    );
    f.if(p.count, () => row(0));
    for (let j = 0; j < 2; j++)
      f.emit(v128.store(p.sums, f32x4.add(v128.load(p.sums, 16 * j), f32x4.add(acc[j], acc[2 + j])), 16 * j));
  });
}

/** Denominators of `count` rows, four lanes each: features times the sums of the keys' features `[M]`. */
export function denominators({ module, features }: KernelContext, M: number): number {
  const madd = multiplyAdd(features);
  return module.func(
    `linear_denominators_${M}`,
    { phi: 'i32', sums: 'i32', out: 'i32', count: 'i32' },
    (f, p) => {
      const acc = f.localArray('v128', 2);
      const [x, z] = f.localArray('i32', 2);
      const end = f.local('i32', plus(p.sums, M * 4));
      f.while(
        () => p.count,
        () => {
          for (const a of acc) f.set(a, v128.zero);
          f.set(x, p.phi);
          f.for(z, p.sums, end, 32, () => {
            for (let j = 0; j < 2; j++)
              f.set(acc[j], madd(v128.load(x, 16 * j), v128.load(z, 16 * j), acc[j]));
            f.increment(x, PANEL_BYTES);
          });
          f.emit(v128.store(p.out, f32x4.add(acc[0], acc[1])));
          f.increment(p.phi, 32);
          f.increment(p.out, 16);
          f.increment(p.count, -1);
        },
      );
    },
  );
}

/** Multiplies `bytes` of floats, a multiple of 32, by `factor`. */
export function scaleFloats({ module }: KernelContext): number {
  return module.func('linear_scale', { at: 'i32', bytes: 'i32', factor: 'f32' }, (f, p) => {
    const factor = f.local('v128', splat(p.factor));
    const end = f.local('i32', i32.add(p.at, p.bytes));
    const i = f.local('i32');
    f.for(i, p.at, end, 32, () => {
      for (let j = 0; j < 2; j++) f.emit(v128.store(i, f32x4.mul(v128.load(i, 16 * j), factor), 16 * j));
    });
  });
}
