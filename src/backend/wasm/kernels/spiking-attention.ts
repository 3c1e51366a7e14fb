import { f32x4, type I32, i8x16, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { kernel, plus, reduce, times } from './kernel.ts';

const pad = (size: number): number => (size + 7) & ~7;

/** Bytes of scratch of one thread: words of keys and values, counts of pairs of channels, counts of keys. */
export const spikingScratch = (N: number, headSize: number): number => {
  const pitch = pad(headSize);
  return Math.ceil(N / 32) * pitch * 8 + pitch * pitch * 4 + pitch * 4;
};

/** Bits of four words as four counts. */
const popcount = (x: V128): V128 =>
  i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(i8x16.popcnt(x)));

/** Spiking attention by the counts of channels that spike together. A unit of work is one head of one sequence. */
export function spikingAttentionKernel(headSize: number) {
  const pitch = pad(headSize);
  return kernel({
    name: `spiking_attention_${headSize}`,
    fields: {
      qkv: 'i32',
      o: 'i32',
      spikes: 'i32',
      lengths: 'i32',
      thresholds: 'i32',
      readout: 'i32',
      N: 'i32',
      B: 'i32',
      H: 'i32',
    },
    build(context, f, at, begin, end) {
      const locals = f.localArray('i32', 18);
      const [unit, b, h, length, q, words, pairs, keys, x, y, z] = locals;
      const [token, group, bits, d, j, o, theta] = locals.slice(11);
      const [word, bit, count, one] = f.localArray('v128', 4);
      const sums = f.localArray('v128', pitch / 4);
      const headBytes = f.local('i32', i32.mul(at.N, i32.const(pitch * 4)));
      const rowOf = (part: number) =>
        i32.add(
          at.qkv,
          i32.mul(i32.add(i32.mul(i32.add(i32.mul(i32.const(part), at.H), h), at.B), b), headBytes),
        );
      const thresholdsOf = (part: number) =>
        i32.add(at.thresholds, i32.mul(i32.add(i32.mul(i32.const(part), at.H), h), i32.const(pitch * 4)));
      const countAt = (part: number) =>
        i32.add(at.spikes, times(i32.add(i32.mul(i32.add(i32.mul(i32.const(part), at.B), b), at.H), h), 4));
      const S = context.scratch(f);

      /** Spikes of 32 tokens at a time, a word for each channel: `[⌈n/32⌉, D′]` from `words` on. */
      const pack = (part: number, to: I32) => {
        f.set(count, v128.zero);
        f.set(theta, thresholdsOf(part));
        f.set(z, to);
        f.for(group, i32.const(0), length, 32, () => {
          f.set(bits, i32.min_s(i32.const(32), i32.sub(length, group)));
          f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
            f.set(word, v128.zero);
            f.set(one, v128.load(i32.add(theta, d)));
            f.set(bit, v128.i32x4(1));
            f.set(x, i32.add(i32.add(rowOf(part), i32.mul(group, i32.const(pitch * 4))), d));
            f.for(token, i32.const(0), bits, 1, () => {
              f.set(word, v128.or(word, v128.and(bit, f32x4.gt(v128.load(x), one))));
              f.set(bit, i32x4.add(bit, bit));
              f.increment(x, pitch * 4);
            });
            f.emit(v128.store(i32.add(z, d), word));
            f.set(count, i32x4.add(count, popcount(word)));
          });
          f.increment(z, pitch * 4);
        });
        f.emit(v128.store32_lane(countAt(part), f32x4.convert_i32x4_s(reduce(f, [count], i32x4.add)), 0));
      };

      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, at.H));
        f.set(h, i32.rem_u(unit, at.H));
        f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.N));
        f.set(words, S);
        f.set(y, i32.mul(i32.shr_u(plus(at.N, 31), i32.const(5)), i32.const(pitch * 4)));
        const valueWords = f.local('i32');
        f.set(valueWords, i32.add(words, y));
        f.set(pairs, i32.add(valueWords, y));
        f.set(keys, plus(pairs, pitch * pitch * 4));
        pack(0, words);
        pack(1, words);
        pack(2, valueWords);
        // How often each channel of the keys spikes, alone and together with each channel of the values.
        f.for(j, i32.const(0), i32.const(pitch), 1, () => {
          f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
            f.set(count, v128.zero);
            f.set(x, i32.add(words, times(j, 4)));
            f.set(y, i32.add(valueWords, d));
            f.for(group, i32.const(0), length, 32, () => {
              f.set(count, i32x4.add(count, popcount(v128.and(v128.load32_splat(x), v128.load(y)))));
              f.increment(x, pitch * 4);
              f.increment(y, pitch * 4);
            });
            f.emit(
              v128.store(
                i32.add(i32.add(pairs, i32.mul(j, i32.const(pitch * 4))), d),
                f32x4.convert_i32x4_s(count),
              ),
            );
          });
        });
        f.for(d, i32.const(0), i32.const(pitch * 4), 16, () => {
          f.set(count, v128.zero);
          f.set(x, i32.add(words, d));
          f.for(group, i32.const(0), length, 32, () => {
            f.set(count, i32x4.add(count, popcount(v128.load(x))));
            f.increment(x, pitch * 4);
          });
          f.emit(v128.store(i32.add(keys, d), f32x4.convert_i32x4_s(count)));
        });
        f.set(theta, thresholdsOf(0));
        f.set(x, i32.add(at.readout, i32.mul(h, i32.const(pitch * 4))));
        f.set(y, i32.mul(at.H, i32.const(pitch * 4)));
        f.set(q, rowOf(0));
        f.for(token, i32.const(0), at.N, 1, () => {
          for (const sum of sums) f.set(sum, v128.zero);
          f.set(count, v128.zero);
          f.for(j, i32.const(0), i32.const(pitch * 4), 4, () => {
            f.set(bit, f32x4.gt(v128.load32_splat(i32.add(q, j)), v128.load32_splat(i32.add(theta, j))));
            f.set(count, f32x4.add(count, v128.and(bit, v128.load32_splat(i32.add(keys, j)))));
            f.set(z, i32.add(pairs, i32.mul(j, i32.const(pitch))));
            sums.forEach((sum, c) => {
              f.set(sum, f32x4.add(sum, v128.and(bit, v128.load(z, 16 * c))));
            });
          });
          f.set(one, f32x4.gt(count, v128.zero));
          f.set(count, v128.and(f32x4.div(f.constant(1), count), one));
          f.set(
            o,
            i32.add(
              at.o,
              i32.mul(i32.add(i32.mul(i32.add(i32.mul(b, at.N), token), at.H), h), i32.const(headSize * 4)),
            ),
          );
          for (let c = 0; c < headSize; c += 4) {
            f.set(
              word,
              f32x4.add(
                f32x4.mul(v128.load(x, 4 * c), f32x4.mul(sums[c / 4], count)),
                v128.load(i32.add(x, y), 4 * c),
              ),
            );
            // A sequence without a token has no output.
            f.if(i32.eqz(length), () => f.set(word, v128.zero));
            if (c + 4 <= headSize) f.emit(v128.store(o, word, 4 * c));
            else
              for (let lane = 0; lane < headSize - c; lane++)
                f.emit(v128.store32_lane(o, word, lane, 4 * (c + lane)));
          }
          f.increment(q, pitch * 4);
        });
      });
    },
  });
}
