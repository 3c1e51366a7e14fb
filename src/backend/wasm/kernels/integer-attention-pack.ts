import { LEAST_SCALE, SIGNED } from '../../../program/ops/integer-attention.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import type { Blocks } from './attention-tiles.ts';
import { type Features, type KernelContext, plus, reduce, splat, times } from './kernel.ts';
import { ROUNDING } from './math.ts';

/** How operands stand in memory for the integer product of a device. */
export interface Codes {
  /** Bytes of one code: 2 where products are of 16 bits. Four bytes are one step of a product. */
  readonly bytes: 1 | 2;
  /** Largest code of a query, and what is added to make it unsigned. */
  readonly query: number;
  readonly queryZero: number;
  /** Largest code of a weight, and what is taken off to make it signed. */
  readonly weight: number;
  readonly weightShift: number;
}

export const codesOf = ({ dot }: Features): Codes => ({
  bytes: dot === 'i16' ? 2 : 1,
  query: dot === 'u7' ? 63 : 127,
  queryZero: dot === 'u7' ? 64 : dot === 'u8' ? 128 : 0,
  weight: dot === 'u7' ? 127 : 255,
  weightShift: dot === 's8' ? 128 : 0,
});

/** Bytes in front of a panel of 8 keys: where their sums start, which undoes the queries' zero. */
export const PANEL_HEADER = 32;
export const panelBytes = (pitch: number, { bytes }: Codes): number => PANEL_HEADER + 8 * pitch * bytes;

const scaleOf = (largest: V128, codes: number): V128 =>
  f32x4.pmax(f32x4.div(largest, v128.f32x4(codes)), v128.f32x4(LEAST_SCALE));

/** Whole numbers in 32 bits, less `shift`. Halves go to the even one. */
const rounded = (f: FunctionBuilder, x: V128, shift?: Variable<'v128'>): V128 => {
  const magic = f.constant(ROUNDING);
  return i32x4.sub(f32x4.add(x, magic), shift ?? magic);
};

/**
 * For each column of `n` rows: their mean, or the scale that their largest magnitude asks for. A column is added from
 * the first row to the last, as the reference does.
 */
export function columnStatistics({ module }: KernelContext, pitch: number, what: 'mean' | 'scale'): number {
  const vectors = pitch / 4;
  return module.func(`integer_attention_${what}`, { rows: 'i32', out: 'i32', n: 'i32' }, (f, p) => {
    const acc = f.localArray('v128', Math.min(8, vectors));
    const [i, row] = f.localArray('i32', 2);
    const count = f.local('v128', splat(f32.convert_i32_s(p.n)));
    for (let from = 0; from < vectors; from += 8) {
      const part = acc.slice(0, Math.min(8, vectors - from));
      for (const a of part) f.set(a, v128.zero);
      f.set(row, p.rows);
      f.for(i, i32.const(0), p.n, 1, () => {
        part.forEach((a, v) => {
          const x = v128.load(row, 16 * (from + v));
          f.set(a, what === 'mean' ? f32x4.add(a, x) : f32x4.pmax(a, f32x4.abs(x)));
        });
        f.increment(row, pitch * 4);
      });
      part.forEach((a, v) => {
        const y = what === 'mean' ? f32x4.div(a, count) : scaleOf(a, SIGNED);
        f.emit(v128.store(p.out, y, 16 * (from + v)));
      });
    }
  });
}

/** Two vectors of codes, in steps of four bytes that stand `stride` bytes apart. */
function storeSteps(
  f: FunctionBuilder,
  { bytes }: Codes,
  [a, b]: readonly Variable<'v128'>[],
  target: Variable<'i32'>,
  stride: number,
  unsigned = false,
): void {
  const words = f.local('v128', i16x8.narrow_i32x4_s(a, b));
  if (bytes === 1)
    f.set(words, unsigned ? i8x16.narrow_i16x8_u(words, words) : i8x16.narrow_i16x8_s(words, words));
  const steps = 2 * bytes;
  for (let lane = 0; lane < steps; lane++) f.emit(v128.store32_lane(target, words, lane, stride * lane));
  f.increment(target, stride * steps);
}

/** Keys `[n, pitch]`, less `means`, as codes in panels of 8; a scale for each block; rows past `n` are zeros. */
export function packIntegerKeys(context: KernelContext, blocks: Blocks, pitch: number): number {
  const codes = codesOf(context.features);
  const panel = panelBytes(pitch, codes);
  const parameters = { keys: 'i32', out: 'i32', scales: 'i32', means: 'i32', n: 'i32' } as const;
  return context.module.func('integer_attention_keys', parameters, (f, p) => {
    const [first, count, i, d, row, target, head] = f.localArray('i32', 7);
    const [inverse, inside, sum] = f.localArray('v128', 3);
    const largest = f.localArray('v128', 2);
    const r = f.localArray('v128', 2);
    const centred = (j: number): V128 =>
      f32x4.sub(v128.load(i32.add(row, d), 16 * j), v128.load(i32.add(p.means, d), 16 * j));
    const eachPair = (body: () => void) => f.for(d, i32.const(0), i32.const(pitch * 4), 32, body);
    f.for(first, i32.const(0), p.n, blocks.key, () => {
      f.set(count, i32.min_s(i32.const(blocks.key), i32.sub(p.n, first)));
      for (const x of largest) f.set(x, v128.zero);
      f.set(row, i32.add(p.keys, i32.mul(first, i32.const(pitch * 4))));
      f.for(i, i32.const(0), count, 1, () => {
        eachPair(() => {
          for (let j = 0; j < 2; j++) f.set(largest[j], f32x4.pmax(largest[j], f32x4.abs(centred(j))));
        });
        f.increment(row, pitch * 4);
      });
      f.set(inverse, scaleOf(reduce(f, largest, f32x4.pmax), SIGNED));
      f.emit(v128.store32_lane(p.scales, inverse, 0));
      f.increment(p.scales, 4);
      f.set(inverse, f32x4.div(v128.f32x4(1), inverse));
      f.for(i, i32.const(0), i32.and(plus(count, 7), i32.const(-8)), 1, () => {
        f.set(inside, i32x4.lt_s(i32x4.splat(i), i32x4.splat(count)));
        const source = i32.add(first, i32.min_s(i, plus(count, -1)));
        f.set(row, i32.add(p.keys, i32.mul(source, i32.const(pitch * 4))));
        f.set(
          head,
          i32.add(
            i32.add(p.out, i32.mul(i32.shr_u(i32.add(first, i), i32.const(3)), i32.const(panel))),
            times(i32.and(i, i32.const(7)), 4),
          ),
        );
        f.set(target, plus(head, PANEL_HEADER));
        f.set(sum, v128.zero);
        eachPair(() => {
          for (let j = 0; j < 2; j++) {
            f.set(r[j], v128.and(rounded(f, f32x4.mul(centred(j), inverse)), inside));
            f.set(sum, i32x4.add(sum, r[j]));
          }
          storeSteps(f, codes, r, target, 32);
        });
        reduce(f, [sum], i32x4.add);
        f.emit(i32.store(head, i32.mul(i32x4.lane(sum, 0), i32.const(-codes.queryZero))));
      });
    });
  });
}

/** Rows of queries as codes, and what turns their sums into scores: the row's scale times `scale`. */
export function quantizeQueries({ module, features }: KernelContext, pitch: number): number {
  const codes = codesOf(features);
  const parameters = { q: 'i32', out: 'i32', factors: 'i32', rows: 'i32', scale: 'f32' } as const;
  return module.func('integer_attention_queries', parameters, (f, p) => {
    const d = f.local('i32');
    const largest = f.localArray('v128', 2);
    const r = f.localArray('v128', 2);
    const scale = f.local('v128');
    const inverse = f.local('v128');
    const shift = f.local('v128', v128.i32x4(0x4b400000 - codes.queryZero));
    const eachPair = (body: () => void) => f.for(d, i32.const(0), i32.const(pitch * 4), 32, body);
    const load = (j: number) => v128.load(i32.add(p.q, d), 16 * j);
    f.while(
      () => p.rows,
      () => {
        for (const x of largest) f.set(x, v128.zero);
        eachPair(() => {
          for (let j = 0; j < 2; j++) f.set(largest[j], f32x4.pmax(largest[j], f32x4.abs(load(j))));
        });
        f.set(scale, scaleOf(reduce(f, largest, f32x4.pmax), codes.query));
        f.set(inverse, f32x4.div(v128.f32x4(1), scale));
        f.emit(v128.store32_lane(p.factors, f32x4.mul(scale, splat(p.scale)), 0));
        eachPair(() => {
          for (let j = 0; j < 2; j++) f.set(r[j], rounded(f, f32x4.mul(load(j), inverse), shift));
          storeSteps(f, codes, r, p.out, 4, codes.queryZero > 0);
        });
        f.increment(p.q, pitch * 4);
        f.increment(p.factors, 4);
        f.increment(p.rows, -1);
      },
    );
  });
}

/**
 * Values `[n, pitch]` as codes by the columns' `scales`, in panels of 8 columns `stride` bytes apart: steps of 4 bytes
 * along the keys, 8 columns a step. Keys from `n` to the next multiple of 8 are zeros. Where weights are made signed,
 * `sums` takes what that costs each column of a block: shift · Σ codes.
 */
export function packIntegerValues(context: KernelContext, blocks: Blocks, pitch: number): number {
  const { bytes, weightShift } = codesOf(context.features);
  const group = 4 / bytes;
  const parameters = { v: 'i32', out: 'i32', scales: 'i32', sums: 'i32', n: 'i32', stride: 'i32' } as const;
  return context.module.func('integer_attention_values', parameters, (f, p) => {
    const [d, t, end, first, row, target, sums] = f.localArray('i32', 7);
    const [inverse, sum, step, code] = f.localArray('v128', 4);
    const bits = v128.i32x4(bytes === 1 ? 255 : 65535);
    /** One step: `group` rows of 4 columns, each column's codes in one lane. */
    const pack = (load: (j: number) => V128) => {
      for (let j = 0; j < group; j++) {
        f.set(code, load(j));
        if (weightShift) f.set(sum, i32x4.add(sum, code));
        const placed = i32x4.shl(v128.and(code, bits), i32.const(8 * bytes * j));
        f.set(step, j ? v128.or(step, placed) : placed);
      }
      f.emit(v128.store(target, step));
      f.increment(target, 32);
    };
    const at = (address: I32, offset = 0) => rounded(f, f32x4.mul(v128.load(address, offset), inverse));
    f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
      f.set(inverse, f32x4.div(v128.f32x4(1), v128.load(i32.add(p.scales, d))));
      const panel = i32.mul(i32.shr_u(d, i32.const(5)), p.stride);
      f.set(target, i32.add(p.out, i32.add(panel, i32.and(d, i32.const(16)))));
      f.set(row, i32.add(p.v, d));
      f.set(sums, i32.add(p.sums, d));
      f.for(first, i32.const(0), p.n, blocks.key, () => {
        f.set(sum, v128.zero);
        f.set(end, i32.min_s(plus(first, blocks.key), i32.and(p.n, i32.const(-group))));
        f.for(t, first, end, group, () => {
          pack((j) => at(row, j * pitch * 4));
          f.increment(row, group * pitch * 4);
        });
        f.set(end, i32.min_s(plus(first, blocks.key), i32.and(plus(p.n, 7), i32.const(-8))));
        f.for(t, t, end, group, () =>
          pack((j) => {
            const k = f.local('i32', plus(t, j));
            const source = i32.mul(i32.min_s(k, plus(p.n, -1)), i32.const(pitch * 4));
            return v128.and(
              at(i32.add(i32.add(p.v, d), source)),
              i32x4.lt_s(i32x4.splat(k), i32x4.splat(p.n)),
            );
          }),
        );
        if (weightShift) {
          f.emit(v128.store(sums, i32x4.mul(sum, v128.i32x4(weightShift))));
          f.increment(sums, pitch * 4);
        }
      });
    });
  });
}
