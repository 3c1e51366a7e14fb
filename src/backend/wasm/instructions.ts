import { type Code, float32Bytes, sleb, uleb } from './encoding.ts';

export type ValueType = 'i32' | 'f32' | 'v128';
/** The code that computes a value of a type: TypeScript rejects an i32 where a v128 belongs. */
export interface Expression<T extends ValueType> {
  readonly type: T;
  readonly code: Code;
}
export type I32 = Expression<'i32'>;
export type F32 = Expression<'f32'>;
export type V128 = Expression<'v128'>;
export type Statement = Code;

const SIMD = 0xfd;
const ATOMIC = 0xfe;

const value = <T extends ValueType>(type: T, ...code: Code[]): Expression<T> => ({ type, code });

/** Instructions without immediates, from a table name → opcode, all of one signature. */
export function table<N extends string, A extends readonly ValueType[], R extends ValueType>(
  _operands: A,
  result: R,
  prefix: number | null,
  opcodes: Record<N, number>,
): Record<N, (...args: { [I in keyof A]: Expression<A[I]> }) => Expression<R>> {
  const out = {} as Record<N, (...args: readonly Expression<ValueType>[]) => Expression<R>>;
  for (const name in opcodes) {
    const opcode: Code = prefix === null ? [opcodes[name]] : [prefix, ...uleb(opcodes[name])];
    out[name] = (...args) => value(result, ...args.map((a) => a.code), opcode);
  }
  return out as never;
}

const memory = (align: number, offset: number): Code => [...uleb(align), ...uleb(offset)];
const load =
  <T extends ValueType>(type: T, opcode: number[], align: number) =>
  (address: I32, offset = 0): Expression<T> =>
    value(type, address.code, opcode, memory(align, offset));
const store =
  <T extends ValueType>(opcode: number[], align: number) =>
  (address: I32, x: Expression<T>, offset = 0): Statement => [
    address.code,
    x.code,
    opcode,
    memory(align, offset),
  ];
const simd = (opcode: number): number[] => [SIMD, ...uleb(opcode)];

const ii = ['i32', 'i32'] as const;
const ff = ['f32', 'f32'] as const;
const v = ['v128'] as const;
const vv = ['v128', 'v128'] as const;
const vvv = ['v128', 'v128', 'v128'] as const;
const vi = ['v128', 'i32'] as const;

export const i32 = {
  const: (n: number): I32 => value('i32', 0x41, sleb(n)),
  ...table(ii, 'i32', null, {
    add: 0x6a,
    sub: 0x6b,
    mul: 0x6c,
    div_u: 0x6e,
    rem_u: 0x70,
    and: 0x71,
    or: 0x72,
    xor: 0x73,
    shl: 0x74,
    shr_s: 0x75,
    shr_u: 0x76,
  }),
  ...table(ii, 'i32', null, {
    eq: 0x46,
    ne: 0x47,
    lt_s: 0x48,
    lt_u: 0x49,
    gt_s: 0x4a,
    gt_u: 0x4b,
    le_s: 0x4c,
    le_u: 0x4d,
    ge_s: 0x4e,
    ge_u: 0x4f,
  }),
  ...table(['i32'] as const, 'i32', null, { eqz: 0x45, clz: 0x67, ctz: 0x68 }),
  load: load('i32', [0x28], 2),
  load8_s: load('i32', [0x2c], 0),
  load8_u: load('i32', [0x2d], 0),
  load16_s: load('i32', [0x2e], 1),
  load16_u: load('i32', [0x2f], 1),
  store: store<'i32'>([0x36], 2),
  store8: store<'i32'>([0x3a], 0),
  store16: store<'i32'>([0x3b], 1),
  /** `condition ? a : b`, both computed. */
  select: (a: I32, b: I32, condition: I32): I32 => value('i32', a.code, b.code, condition.code, 0x1b),
  min_s: (a: I32, b: I32): I32 => i32.select(a, b, i32.lt_s(a, b)),
  min_u: (a: I32, b: I32): I32 => i32.select(a, b, i32.lt_u(a, b)),
  max_s: (a: I32, b: I32): I32 => i32.select(a, b, i32.gt_s(a, b)),
};

export const atomic = {
  load: (address: I32, offset = 0): I32 => value('i32', address.code, [ATOMIC, 0x10], memory(2, offset)),
  store: (address: I32, x: I32, offset = 0): Statement => [
    address.code,
    x.code,
    [ATOMIC, 0x17],
    memory(2, offset),
  ],
  /** Sleeps up to 0.1 ms while the word still holds `expected`. */
  wait: (address: I32, expected: I32, offset = 0): Statement => [
    address.code,
    expected.code,
    [0x42, ...sleb(100_000)],
    [ATOMIC, 0x01],
    memory(2, offset),
    0x1a,
  ],
  /** Adds and gives the value before. */
  add: (address: I32, x: I32, offset = 0): I32 =>
    value('i32', address.code, x.code, [ATOMIC, 0x1e], memory(2, offset)),
};

export const f32 = {
  const: (x: number): F32 => value('f32', 0x43, float32Bytes(x)),
  ...table(ff, 'f32', null, { add: 0x92, sub: 0x93, mul: 0x94, div: 0x95, min: 0x96, max: 0x97 }),
  ...table(['f32'] as const, 'f32', null, { sqrt: 0x91, nearest: 0x90 }),
  ...table(['i32'] as const, 'f32', null, { convert_i32_s: 0xb2, reinterpret_i32: 0xbe }),
  load: load('f32', [0x2a], 2),
  store: store<'f32'>([0x38], 2),
};

const constant = (bytes: Iterable<number>): V128 => value('v128', simd(12), [...bytes]);
export const v128 = {
  const: constant,
  zero: constant(new Uint8Array(16)),
  i8x16: (x: number): V128 => constant(new Uint8Array(16).fill(x & 255)),
  i32x4: (...x: number[]): V128 =>
    constant(new Uint8Array(Int32Array.from({ length: 4 }, (_, i) => x[i % x.length]).buffer)),
  f32x4: (...x: number[]): V128 =>
    constant(new Uint8Array(Float32Array.from({ length: 4 }, (_, i) => x[i % x.length]).buffer)),
  load: load('v128', simd(0), 4),
  store: store<'v128'>(simd(11), 4),
  load8x8_s: load('v128', simd(1), 3),
  load16_splat: load('v128', simd(8), 1),
  load16x4_u: load('v128', simd(4), 3),
  load32_splat: load('v128', simd(9), 2),
  load32_zero: load('v128', simd(92), 2),
  load64_splat: load('v128', simd(10), 3),
  store32_lane: (address: I32, x: V128, lane: number, offset = 0): Statement => [
    address.code,
    x.code,
    simd(90),
    memory(2, offset),
    lane,
  ],
  shuffle: (a: V128, b: V128, lanes: readonly number[]): V128 =>
    value('v128', a.code, b.code, simd(13), [...lanes]),
  ...table(vv, 'v128', SIMD, { and: 78, andnot: 79, or: 80, xor: 81 }),
  ...table(v, 'v128', SIMD, { not: 77 }),
  ...table(['v128'] as const, 'i32', SIMD, { any_true: 83 }),
  /** Bits of `a` where `mask` is 1, of `b` where it is 0. */
  ...table(vvv, 'v128', SIMD, { bitselect: 82 }),
};
export const i8x16 = {
  ...table(v, 'v128', SIMD, { popcnt: 98 }),
  ...table(v, 'i32', SIMD, { bitmask: 100 }),
  ...table(vv, 'v128', SIMD, {
    add: 110,
    sub: 113,
    narrow_i16x8_s: 101,
    narrow_i16x8_u: 102,
    min_u: 119,
    swizzle: 14,
    /** The same for indices below 16; past them an engine may give anything. */
    relaxed_swizzle: 0x100,
  }),
};
export const i16x8 = {
  ...table(v, 'v128', SIMD, {
    extadd_pairwise_i8x16_u: 125,
    extend_low_i8x16_s: 135,
    extend_high_i8x16_s: 136,
    extend_low_i8x16_u: 137,
    extend_high_i8x16_u: 138,
  }),
  ...table(vi, 'v128', SIMD, { shl: 139, shr_u: 141 }),
  ...table(vv, 'v128', SIMD, { narrow_i32x4_s: 133 }),
  /** Signed bytes of the first operand times 7-bit ones of the second, added in pairs. */
  ...table(vv, 'v128', SIMD, { add: 142, relaxed_dot_i8x16_i7x16_s: 0x112 }),
};
export const i32x4 = {
  ...table(vv, 'v128', SIMD, {
    add: 174,
    sub: 177,
    mul: 181,
    min_s: 182,
    max_s: 184,
    dot_i16x8_s: 186,
    eq: 55,
    ne: 56,
    lt_s: 57,
    gt_s: 59,
  }),
  ...table(v, 'v128', SIMD, {
    extadd_pairwise_i16x8_u: 127,
    extend_low_i16x8_s: 167,
    extend_high_i16x8_s: 168,
    extend_low_i16x8_u: 169,
    extend_high_i16x8_u: 170,
    trunc_sat_f32x4_s: 248,
  }),
  ...table(vi, 'v128', SIMD, { shl: 171, shr_s: 172, shr_u: 173 }),
  ...table(['i32'] as const, 'v128', SIMD, { splat: 17 }),
  /** Signed bytes of the first operand times the second's (7 bits are safe everywhere), four at a time, plus the third. */
  ...table(vvv, 'v128', SIMD, { relaxed_dot_i8x16_i7x16_add_s: 0x113 }),
  lane: (x: V128, lane: number): I32 => value('i32', x.code, simd(27), lane),
};
export const f32x4 = {
  ...table(vv, 'v128', SIMD, {
    add: 228,
    sub: 229,
    mul: 230,
    div: 231,
    min: 232,
    max: 233,
    pmin: 234,
    pmax: 235,
    eq: 65,
    lt: 67,
    gt: 68,
    le: 69,
    ge: 70,
  }),
  ...table(v, 'v128', SIMD, { abs: 224, sqrt: 227, nearest: 106, convert_i32x4_s: 250 }),
  ...table(['f32'] as const, 'v128', SIMD, { splat: 19 }),
  ...table(vvv, 'v128', SIMD, { relaxed_madd: 0x105 }),
  lane: (x: V128, lane: number): F32 => value('f32', x.code, simd(31), lane),
};
