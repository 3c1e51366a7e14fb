import { f32x4, i32, v128 } from '../instructions.ts';
import { eachVector, kernel, times } from './kernel.ts';
import { exp2 } from './math.ts';

/** Below every score, and finite: −∞ less −∞ is no number. */
const NO_KEY = -1e30;

/** Two attentions over pairs that they do not share, as one. A unit of work is one row of one sequence. */
export const mergeAttentionKernel = kernel({
  name: 'merge_attention',
  fields: { oa: 'i32', sa: 'i32', ob: 'i32', sb: 'i32', o: 'i32', H: 'i32', rows: 'i32', D: 'i32' },
  build({ features }, f, at, begin, end) {
    const [unit, h, s, a, b, o] = f.localArray('i32', 6);
    const [ma, mb, wa, wb, most] = f.localArray('v128', 5);
    f.for(unit, begin, end, 1, () => {
      f.for(h, i32.const(0), at.H, 1, () => {
        f.set(s, times(i32.add(i32.mul(h, at.rows), unit), 8));
        f.set(ma, f32x4.pmax(v128.load32_splat(i32.add(at.sa, s)), f.constant(NO_KEY)));
        f.set(mb, f32x4.pmax(v128.load32_splat(i32.add(at.sb, s)), f.constant(NO_KEY)));
        f.set(most, f32x4.pmax(ma, mb));
        for (const [w, m, sums] of [
          [wa, ma, at.sa],
          [wb, mb, at.sb],
        ] as const)
          f.set(
            w,
            f32x4.mul(
              v128.load32_splat(i32.add(sums, s), 4),
              exp2(f, features, f32x4.mul(f32x4.sub(m, most), f.constant(Math.LOG2E))),
            ),
          );
        f.set(most, f32x4.add(wa, wb));
        f.set(most, v128.andnot(f32x4.div(f.constant(1), most), f32x4.lt(most, f.constant(1e-30))));
        f.set(wa, f32x4.mul(wa, most));
        f.set(wb, f32x4.mul(wb, most));
        f.set(s, times(i32.mul(i32.add(i32.mul(unit, at.H), h), at.D), 4));
        f.set(a, i32.add(at.oa, s));
        f.set(b, i32.add(at.ob, s));
        f.set(o, i32.add(at.o, s));
        eachVector(f, at.D, [a, b, o], 1, (lanes) =>
          lanes.store(o, f32x4.add(f32x4.mul(lanes.load(a), wa), f32x4.mul(lanes.load(b), wb))),
        );
      });
    });
  },
});
