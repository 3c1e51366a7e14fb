import type { FunctionBuilder, ModuleBuilder, Variable } from '../assembler.ts';
import { type F32, f32, f32x4, type I32, i32, i32x4, type V128, v128 } from '../instructions.ts';

/** What the engine was proved to do right, which fixes both the code and the packing of weights. */
export interface Features {
  readonly level: 'simd128' | 'relaxed-simd';
  /** Whether `relaxed_madd` rounds once. */
  readonly fused: boolean;
  /** Integer product: operand range of the relaxed dot, or widening to 16 bits. */
  readonly dot: 'u8' | 's8' | 'u7' | 'i16';
  /** 8 columns a panel; 16 where the engine joins pairs of vectors. */
  readonly panel: 8 | 16;
}

/** Rows of the register tiles, chosen on the device. */
export interface Tiles {
  readonly float32: number;
  readonly int8: number;
}

export interface KernelContext {
  readonly module: ModuleBuilder;
  readonly features: Features;
  readonly tiles: Tiles;
  /** Address of this thread's scratch area, held in memory at a place that depends on the instance. */
  readonly scratch: (f: FunctionBuilder) => I32;
}

/** Sixteen bytes of memory that hold eight 16-bit ones. */
export const ONES_AT = 512;

/** A kernel's fields, in the order of its descriptor in memory: int32 or float32, 4 bytes each. */
export type Fields = Readonly<Record<string, 'i32' | 'f32'>>;
export interface Kernel<F extends Fields = Fields> {
  readonly name: string;
  readonly fields: F;
  build(
    context: KernelContext,
    f: FunctionBuilder,
    at: { [K in keyof F]: Variable<F[K]> },
    begin: Variable<'i32'>,
    end: Variable<'i32'>,
  ): void;
}

export const kernel = <F extends Fields>(definition: Kernel<F>): Kernel<F> => definition;

/** All kernels have one signature: descriptor, first unit of work, end of the units, scratch. */
export const KERNEL_PARAMETERS = { descriptor: 'i32', begin: 'i32', end: 'i32', scratch: 'i32' } as const;

/** Adds a kernel to the module's table; gives its place there. */
export function addKernel(context: Omit<KernelContext, 'scratch'>, definition: Kernel): number {
  const index = context.module.func(definition.name, KERNEL_PARAMETERS, (f, p) => {
    const at: Record<string, Variable<'i32' | 'f32'>> = {};
    Object.entries(definition.fields).forEach(([name, type], i) => {
      at[name] =
        type === 'i32'
          ? f.local('i32', i32.load(p.descriptor, 4 * i))
          : f.local('f32', f32.load(p.descriptor, 4 * i));
    });
    definition.build({ ...context, scratch: () => p.scratch }, f, at as never, p.begin, p.end);
  });
  return context.module.tabulate(index);
}

/** `a · b + c`, rounded once where the engine does. */
export function multiplyAdd(features: Features): (a: V128, b: V128, c: V128) => V128 {
  return features.fused ? f32x4.relaxed_madd : (a, b, c) => f32x4.add(c, f32x4.mul(a, b));
}

export const times = (a: I32, n: number): I32 =>
  Number.isInteger(Math.log2(n)) ? i32.shl(a, i32.const(Math.log2(n))) : i32.mul(a, i32.const(n));
export const plus = (a: I32, n: number): I32 => i32.add(a, i32.const(n));

/** How to touch the four values under a cursor; in a row's tail only the first few are there. */
export interface Lanes {
  load(cursor: I32): V128;
  store(cursor: I32, x: V128): void;
  /** `x`, with lanes outside the row replaced by 0. */
  keep(x: V128): V128;
  /** `x`, with lanes outside the row replaced by `otherwise`. */
  keepOr(x: V128, otherwise: V128): V128;
  /** Which of `unroll` accumulators to use. */
  readonly slot: number;
}

/**
 * Walks a row of `count` floats, four at a time, advancing each of `cursors`; loads in the tail may read up to 12
 * bytes past the row (the arena has slack for it), stores never pass it.
 */
export function eachVector(
  f: FunctionBuilder,
  count: I32,
  cursors: readonly Variable<'i32'>[],
  unroll: number,
  body: (lanes: Lanes) => void,
): void {
  const left = f.local('i32', count);
  const whole = (slot: number): Lanes => ({
    load: (c) => v128.load(c, 0),
    store: (c, x) => f.emit(v128.store(c, x)),
    keep: (x) => x,
    keepOr: (x) => x,
    slot,
  });
  const advance = () => {
    for (const c of cursors) f.increment(c, 16);
    f.increment(left, -4);
  };
  if (unroll > 1)
    f.while(
      () => i32.ge_s(left, i32.const(4 * unroll)),
      () => {
        for (let slot = 0; slot < unroll; slot++) {
          body(whole(slot));
          advance();
        }
      },
    );
  f.while(
    () => i32.ge_s(left, i32.const(4)),
    () => {
      body(whole(0));
      advance();
    },
  );
  f.if(left, () => {
    const mask = f.local('v128', laneMask(left));
    body({
      load: (c) => v128.and(v128.load(c), mask),
      store: (c, x) => {
        const kept = f.local('v128', x);
        for (let lane = 0; lane < 3; lane++)
          f.if(i32.gt_s(left, i32.const(lane)), () => f.emit(v128.store32_lane(c, kept, lane, 4 * lane)));
      },
      keep: (x) => v128.and(x, mask),
      keepOr: (x, otherwise) => v128.bitselect(x, otherwise, mask),
      slot: 0,
    });
  });
}

const laneMask = (count: I32): V128 => i32x4.lt_s(v128.i32x4(0, 1, 2, 3), i32x4.splat(count));

const SWAP_HALVES = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];
const SWAP_PAIRS = [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11];

/** Reduces the accumulators with `combine` and then their four lanes; the result is in every lane of the first. */
export function reduce(
  f: FunctionBuilder,
  accumulators: readonly Variable<'v128'>[],
  combine: (a: V128, b: V128) => V128,
): Variable<'v128'> {
  const [first, ...rest] = accumulators;
  for (const other of rest) f.set(first, combine(first, other));
  f.set(first, combine(first, v128.shuffle(first, first, SWAP_HALVES)));
  f.set(first, combine(first, v128.shuffle(first, first, SWAP_PAIRS)));
  return first;
}

export const splat = (x: F32): V128 => f32x4.splat(x);
