import type { FeatureMap } from '../../../../program/ops/feature-maps.ts';
import type { FunctionBuilder, Variable } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, type V128, v128 } from '../../instructions.ts';
import { eachVector, type Features, reduce, splat, times } from '../../kernels/kernel.ts';
import { existing } from '../../kernels/product.ts';

/** What the code is generated for. */
export interface FeatureVariant {
  readonly kind: FeatureMap['kind'];
  readonly normalise: boolean;
  readonly keys: boolean;
}

export const FIELDS = {
  /** First row of x, of Wx, of the features; their gradient, and those of x and of Wx. */
  x: 'i32',
  e: 'i32',
  phi: 'i32',
  d: 'i32',
  dx: 'i32',
  de: 'i32',
  /** 0 where every row is there. */
  lengths: 'i32',
  /** Cosines and sines of rows. */
  angles: 'i32',
  B: 'i32',
  N: 'i32',
  size: 'i32',
  pitch: 'i32',
  /** Columns of Wx, and of the features. */
  m: 'i32',
  count: 'i32',
  epsilon: 'f32',
} as const;
export type At = { [K in keyof typeof FIELDS]: Variable<(typeof FIELDS)[K]> };

export const LOWEST = -1e30;

/** What every row's code works on: addresses of the row in each tensor. */
export interface Row {
  readonly f: FunctionBuilder;
  readonly features: Features;
  readonly at: At;
  readonly x: Variable<'i32'>;
  readonly e: Variable<'i32'>;
  readonly phi: Variable<'i32'>;
  readonly d: Variable<'i32'>;
  readonly dx: Variable<'i32'>;
  readonly de: Variable<'i32'>;
  readonly n: Variable<'i32'>;
  readonly cursors: readonly Variable<'i32'>[];
}

export const inverseRoot = (count: I32): V128 =>
  f32x4.div(v128.f32x4(1), f32x4.sqrt(splat(f32.convert_i32_s(count))));

/** ‖x‖² / 2√D. */
export function halfNorm({ f, at, x, cursors: [c] }: Row): Variable<'v128'> {
  const sum = f.localArray('v128', 1);
  f.set(sum[0], v128.zero);
  f.set(c, x);
  eachVector(f, at.size, [c], 1, (lanes) =>
    f.set(sum[0], f32x4.add(sum[0], f32x4.mul(lanes.load(c), lanes.load(c)))),
  );
  reduce(f, sum, f32x4.add);
  f.set(sum[0], f32x4.mul(f32x4.mul(sum[0], inverseRoot(at.size)), v128.f32x4(0.5)));
  return sum[0];
}

/** Walks Wx and both halves of the features that come of it; hedgehog has two. */
export function eachExponent(
  { f, at, e, cursors: [from, first, second] }: Row,
  phi: I32,
  body: (
    e: V128,
    sign: 1 | -1,
    feature: { load(): V128; store(x: V128): void },
    keep: (x: V128, otherwise: V128) => V128,
  ) => void,
  halves: readonly (1 | -1)[],
): void {
  f.set(from, e);
  f.set(first, phi);
  f.set(second, i32.add(phi, times(at.m, 4)));
  eachVector(f, at.m, [from, first, second], 1, (lanes) => {
    const exponent = f.local('v128', lanes.load(from));
    for (const sign of halves) {
      const cursor = sign === 1 ? first : second;
      body(
        sign === 1 ? exponent : f32x4.sub(v128.zero, exponent),
        sign,
        { load: () => lanes.load(cursor), store: (x) => lanes.store(cursor, x) },
        (x, otherwise) => lanes.keepOr(x, otherwise),
      );
    }
  });
}

export const isProjected = ({ kind }: FeatureVariant): boolean => kind === 'performer' || kind === 'hedgehog';

/** Locals of one row, and the walk over the rows of a unit. */
export function rowsOf(
  f: FunctionBuilder,
  features: Features,
  at: At,
  unit: Variable<'i32'>,
  rows: Variable<'i32'>,
) {
  const [x, e, phi, d, dx, de, n] = f.localArray('i32', 7);
  const row: Row = { f, features, at, x, e, phi, d, dx, de, n, cursors: f.localArray('i32', 4) };
  const place = (index: I32) => {
    f.set(x, i32.add(at.x, times(i32.mul(index, at.pitch), 4)));
    f.set(e, i32.add(at.e, times(i32.mul(index, at.m), 4)));
    f.set(phi, i32.add(at.phi, times(i32.mul(index, at.count), 4)));
    f.set(d, i32.add(at.d, times(i32.mul(index, at.count), 4)));
    f.set(dx, i32.add(at.dx, times(i32.mul(index, at.pitch), 4)));
    f.set(de, i32.add(at.de, times(i32.mul(index, at.m), 4)));
  };
  const eachRow = (body: () => void) =>
    f.for(n, i32.const(0), rows, 1, () => {
      place(i32.add(i32.mul(unit, at.N), n));
      body();
    });

  return { row, eachRow };
}

/** Sets `rows` to those of a unit that are there. */
export function countRows(f: FunctionBuilder, at: At, unit: Variable<'i32'>, rows: Variable<'i32'>): void {
  f.set(rows, at.N);
  f.if(at.lengths, () => f.set(rows, existing(at.lengths, i32.rem_u(unit, at.B), at.N)));
}

/** 1/D^¼ for performer, else 1. */
export const scaleOf = ({ kind }: FeatureVariant, at: At): V128 =>
  kind === 'performer' ? f32x4.sqrt(inverseRoot(at.size)) : v128.f32x4(1);
