import { f32, f32x4, i32, v128 } from '../../instructions.ts';
import { pad, rowAt } from '../../kernels/attention.ts';
import { kernel, multiplyAdd, plus, reduce, splat } from '../../kernels/kernel.ts';
import {
  eachNormalizedRow,
  ROW_FIELDS,
  type RowAttentionVariant,
  rowAttentionScratch,
} from '../../kernels/row-attention.ts';
import { ROW_RESULT } from '../../kernels/row-normalizers.ts';

/** Bytes of scratch of one thread: what the forward pass needs, and dP of a row's keys. */
export const rowAttentionGradientScratch = (
  S: number,
  variant: Omit<RowAttentionVariant, 'normalizer'>,
): number => rowAttentionScratch(S, variant) + ((S * 4 + 63) & -64);

/**
 * Backward pass of attention whose rows are normalised whole. Weights are found again, row by row; what follows walks
 * the keys that have one: dP = dO·v, dS = s · (dP − Σ s·dP / Σ s), dQ += dS·k, dK += dS·q, dV += P·dO.
 */
export function rowAttentionGradientKernel(variant: RowAttentionVariant) {
  const { keySize, headSize, normalizer } = variant;
  const [keyPitch, pitch] = [pad(keySize), pad(headSize)];
  return kernel({
    name: `training_row_attention_${keySize}_${headSize}`,
    fields: {
      ...ROW_FIELDS,
      dO: 'i32',
      /** From queries, keys and values to their gradients, which have the same layout; 0 where there is none. */
      dQ: 'i32',
      dK: 'i32',
      dV: 'i32',
      /** Heads of queries of one unit: all that read the same gradients. */
      heads: 'i32',
    },
    build(context, f, at, begin, end) {
      const madd = multiplyAdd(context.features);
      const g = f.localArray('v128', pitch / 4);
      const [weight, factor, total, mean, d, inverse] = f.localArray('v128', 6);
      const sums = f.localArray('v128', 1);
      const [x, y, z, last, query, from] = f.localArray('i32', 6);
      const units = [i32.mul(begin, at.heads), i32.mul(end, at.heads)] as const;
      eachNormalizedRow(context, f, at, units, variant, ({ place, n, result, toKeys, behind }) => {
        const { b, h, q, k, v } = place;
        const outRow = i32.add(i32.mul(i32.add(i32.mul(b, at.N), n), at.H), h);
        f.set(from, rowAt(at.dO, outRow, headSize * 4));
        g.forEach((column, c) => {
          const here = headSize - 4 * c;
          f.set(column, here > 0 ? v128.load(from, 16 * c) : v128.zero);
          // The last columns are another head's.
          if (here > 0 && here < 4)
            f.set(
              column,
              v128.and(column, v128.i32x4(...[0, 1, 2, 3].map((lane) => (lane < here ? -1 : 0)))),
            );
        });
        f.set(query, rowAt(q, n, keyPitch * 4));
        f.set(inverse, v128.load32_splat(result, ROW_RESULT.inverse));
        f.set(from, plus(result, ROW_RESULT.weights));
        f.set(last, rowAt(from, i32.load(result, ROW_RESULT.count), 4));
        const key = () => i32.load(i32.add(x, toKeys));
        const gradient = () => i32.add(behind, i32.sub(x, from));
        const weigh = () => {
          f.set(weight, f32x4.mul(v128.load32_splat(x), inverse));
          if (normalizer === 'topK') f.set(factor, weight);
          else f.set(factor, normalizer === 'sparsemax' ? v128.f32x4(1) : f32x4.sqrt(weight));
        };
        f.set(total, v128.zero);
        f.set(mean, v128.zero);
        f.for(x, from, last, 4, () => {
          weigh();
          f.set(y, rowAt(v, key(), pitch * 4));
          f.set(sums[0], v128.zero);
          g.forEach((dO, c) => {
            f.set(sums[0], madd(dO, v128.load(y, 16 * c), sums[0]));
          });
          f.set(d, reduce(f, sums, f32x4.add));
          f.emit(v128.store32_lane(gradient(), d, 0));
          f.set(total, f32x4.add(total, factor));
          f.set(mean, madd(factor, d, mean));
        });
        f.set(mean, f32x4.div(mean, total));
        f.for(x, from, last, 4, () => {
          weigh();
          f.set(d, f32x4.mul(factor, f32x4.sub(v128.load32_splat(gradient()), mean)));
          // `at.scale` is that of powers of two.
          f.set(d, f32x4.mul(d, splat(f32.mul(at.scale, f32.const(Math.LN2)))));
          f.set(y, rowAt(k, key(), keyPitch * 4));
          const addTo = (
            to: typeof y,
            by: typeof d,
            column: (c: number) => ReturnType<typeof v128.load>,
            columns: number,
          ) => {
            for (let c = 0; c < columns / 4; c++)
              f.emit(v128.store(to, madd(by, column(c), v128.load(to, 16 * c)), 16 * c));
          };
          f.if(at.dQ, () => {
            f.set(z, i32.add(query, at.dQ));
            addTo(z, d, (c) => v128.load(y, 16 * c), keyPitch);
          });
          f.if(at.dK, () => {
            f.set(z, i32.add(y, at.dK));
            addTo(z, d, (c) => v128.load(query, 16 * c), keyPitch);
          });
          f.if(at.dV, () => {
            f.set(z, i32.add(rowAt(v, key(), pitch * 4), at.dV));
            addTo(z, weight, (c) => g[c], pitch);
          });
        });
      });
    },
  });
}
