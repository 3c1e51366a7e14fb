import { f32x4, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Blocks, scoreRow } from './attention-tiles.ts';
import { codesOf, PANEL_HEADER } from './integer-attention-pack.ts';
import { integerDot } from './integer-dot.ts';
import { type KernelContext, multiplyAdd, plus, reduce, splat } from './kernel.ts';
import { exp2, ROUNDING } from './math.ts';

/** Statistics of the rows of a block of queries, each an array of `blocks.query` floats. */
export const statistics = ({ query }: Blocks) => ({
  maximum: 0,
  sum: query * 4,
  /** What the row's output so far is multiplied by, and the sums of the block of keys at hand. */
  alpha: query * 8,
  beta: query * 12,
  /** Turns sums of codes into scores. */
  factor: query * 16,
  bytes: query * 20,
});

/** `rows` × 8 sums of products of codes, as floats: queries against one panel of keys. */
export function integerScoreTile(
  { module, features }: KernelContext,
  blocks: Blocks,
  pitch: number,
  rows: number,
): number {
  const { bytes, queryZero } = codesOf(features);
  const row = pitch * bytes;
  const unroll = row % 16 === 0 ? 4 : 2;
  const parameters = { q: 'i32', keys: 'i32', s: 'i32' } as const;
  return module.func(`integer_attention_scores_${rows}`, parameters, (f, p) => {
    const acc = f.localArray('v128', rows * 2);
    const key = f.localArray('v128', 2);
    const query = f.local('v128');
    const end = f.local('i32', plus(p.q, row));
    const dot = integerDot(f, features);
    acc.forEach((a, i) => {
      f.set(a, queryZero ? v128.load(p.keys, 16 * (i & 1)) : v128.zero);
    });
    f.doWhile(
      () => {
        for (let u = 0; u < unroll; u++) {
          for (let j = 0; j < 2; j++) f.set(key[j], v128.load(p.keys, PANEL_HEADER + 32 * u + 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(query, v128.load32_splat(p.q, i * row + 4 * u));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], dot(key[j], query, acc[2 * i + j]));
          }
        }
        f.increment(p.keys, 32 * unroll);
        f.increment(p.q, 4 * unroll);
      },
      () => i32.lt_u(p.q, end),
    );
    acc.forEach((a, i) => {
      f.emit(v128.store(p.s, f32x4.convert_i32x4_s(a), (i >> 1) * scoreRow(blocks) + 16 * (i & 1)));
    });
  });
}

/** `rows` × 8 outputs: `o · alpha + beta · Σ codes of weights · codes of values`, over `bytes` bytes of weights. */
export function integerValueTile(
  { module, features }: KernelContext,
  blocks: Blocks,
  pitch: number,
  rows: number,
): number {
  const madd = multiplyAdd(features);
  const { bytes, weightShift } = codesOf(features);
  const { alpha, beta } = statistics(blocks);
  const unroll = 2 * bytes;
  const parameters = { s: 'i32', v: 'i32', o: 'i32', stats: 'i32', bytes: 'i32', sums: 'i32' } as const;
  return module.func(`integer_attention_values_${rows}`, parameters, (f, p) => {
    const acc = f.localArray('v128', rows * 2);
    const value = f.localArray('v128', 2);
    const weight = f.local('v128');
    const end = f.local('i32', i32.add(p.s, p.bytes));
    const dot = integerDot(f, features);
    acc.forEach((a, i) => {
      f.set(a, weightShift ? v128.load(p.sums, 16 * (i & 1)) : v128.zero);
    });
    f.doWhile(
      () => {
        for (let u = 0; u < unroll; u++) {
          for (let j = 0; j < 2; j++) f.set(value[j], v128.load(p.v, 32 * u + 16 * j));
          for (let i = 0; i < rows; i++) {
            f.set(weight, v128.load32_splat(p.s, i * scoreRow(blocks) + 4 * u));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j], dot(value[j], weight, acc[2 * i + j]));
          }
        }
        f.increment(p.v, 32 * unroll);
        f.increment(p.s, 4 * unroll);
      },
      () => i32.lt_u(p.s, end),
    );
    for (let i = 0; i < rows; i++) {
      f.set(weight, v128.load32_splat(p.stats, beta + 4 * i));
      f.set(value[0], v128.load32_splat(p.stats, alpha + 4 * i));
      for (let j = 0; j < 2; j++) {
        const at = i * pitch * 4 + 16 * j;
        const before = f32x4.mul(v128.load(p.o, at), value[0]);
        f.emit(v128.store(p.o, madd(f32x4.convert_i32x4_s(acc[2 * i + j]), weight, before), at));
      }
    }
  });
}

/**
 * Online softmax of one row of sums, which become codes of weights, relative to the largest of this block of keys: new
 * maximum, alpha, beta, and the sum of the codes. The row's length is a multiple of 16.
 */
export function softmaxCodes({ module, features }: KernelContext, blocks: Blocks, whole: boolean): number {
  const madd = multiplyAdd(features);
  const { bytes, weight: most, weightShift } = codesOf(features);
  const { maximum: MAXIMUM, sum: SUM, alpha: ALPHA, beta: BETA } = statistics(blocks);
  const parameters = { s: 'i32', stats: 'i32', scale: 'f32', keys: 'i32' } as const;
  return module.func(`integer_attention_softmax_${whole ? 'whole' : 'ragged'}`, parameters, (f, p) => {
    const scale = f.local('v128', splat(p.scale));
    const from = f.local('i32');
    const to = f.local('i32');
    const end = f.local('i32', i32.add(p.s, i32.shl(p.keys, i32.const(2))));
    /** Groups of 16 scores: all in a row of code where the block is whole. */
    const groups = (body: (read: number, write: number) => void) => {
      f.set(from, p.s);
      f.set(to, p.s);
      if (whole) for (let g = 0; g < blocks.key / 16; g++) body(64 * g, 16 * bytes * g);
      else
        f.while(
          () => i32.lt_u(from, end),
          () => {
            body(0, 0);
            f.increment(from, 64);
            f.increment(to, 16 * bytes);
          },
        );
    };
    const largest = f.localArray('v128', 4, v128.f32x4(-Infinity));
    groups((read) => {
      largest.forEach((x, v) => {
        f.set(x, f32x4.pmax(x, v128.load(from, read + 16 * v)));
      });
    });
    const top = reduce(f, largest, f32x4.pmax);
    const scaled = f.local('v128', f32x4.mul(top, scale));
    // A block that this row does not see has no largest score: any finite one will do.
    f.set(top, f32x4.pmax(top, f.constant(-(2 ** 30))));
    const before = f.local('v128', v128.load32_splat(p.stats, MAXIMUM));
    const maximum = f.local('v128', f32x4.pmax(before, scaled));
    f.emit(v128.store32_lane(p.stats, maximum, 0, MAXIMUM));
    // Lane 0: how far the maximum rose; lane 1: how far this block is below it.
    const both = v128.shuffle(before, scaled, [0, 1, 2, 3, 16, 17, 18, 19, 0, 1, 2, 3, 0, 1, 2, 3]);
    const factors = f.local('v128', exp2(f, features, f32x4.sub(both, maximum)));
    f.emit(v128.store32_lane(p.stats, factors, 0, ALPHA));
    f.emit(v128.store32_lane(p.stats, factors, 1, BETA));
    const magic = f.constant(ROUNDING);
    const sums = f.localArray('v128', 4, v128.zero);
    const code = f.localArray('v128', 4);
    const offset = weightShift ? f.local('v128', v128.i8x16(weightShift)) : null;
    groups((read, write) => {
      code.forEach((c, v) => {
        // Sums of codes are whole: their difference is exact, and 0 for the largest.
        const below = f32x4.sub(v128.load(from, read + 16 * v), top);
        const weight: V128 = exp2(f, features, madd(below, scale, f.constant(Math.log2(most))));
        f.set(c, i32x4.sub(f32x4.add(weight, magic), magic));
        f.set(sums[v], i32x4.add(sums[v], c));
      });
      const [a, b] = [i16x8.narrow_i32x4_s(code[0], code[1]), i16x8.narrow_i32x4_s(code[2], code[3])];
      if (bytes === 2) {
        f.emit(v128.store(to, a, write));
        f.emit(v128.store(to, b, write + 16));
      } else {
        const packed = i8x16.narrow_i16x8_u(a, b);
        f.emit(v128.store(to, offset ? i8x16.sub(packed, offset) : packed, write));
      }
    });
    const sum = f32x4.mul(
      f32x4.convert_i32x4_s(reduce(f, sums, i32x4.add)),
      v128.load32_splat(p.stats, BETA),
    );
    f.emit(v128.store32_lane(p.stats, madd(v128.load32_splat(p.stats, SUM), factors, sum), 0, SUM));
  });
}
