import { f32x4, i32, v128 } from '../../instructions.ts';
import { eachVector, kernel, reduce, times } from '../../kernels/kernel.ts';
import { exp2 } from '../../kernels/math.ts';

const NO_KEY = -1e30;

/** Gradients of both parts of a merged attention. A unit is one row of one sequence. */
export const mergeAttentionGradientKernel = kernel({
  name: 'training_merge',
  fields: {
    oa: 'i32',
    sa: 'i32',
    ob: 'i32',
    sb: 'i32',
    o: 'i32',
    dy: 'i32',
    doa: 'i32',
    dsa: 'i32',
    dob: 'i32',
    dsb: 'i32',
    H: 'i32',
    rows: 'i32',
    D: 'i32',
  },
  build({ features }, f, at, begin, end) {
    const [unit, h, s, offset, part, o, dy, to] = f.localArray('i32', 8);
    const [ma, mb, wa, wb, inverse, share] = f.localArray('v128', 6);
    const sums = f.localArray('v128', 1);
    f.for(unit, begin, end, 1, () => {
      f.for(h, i32.const(0), at.H, 1, () => {
        f.set(s, times(i32.add(i32.mul(h, at.rows), unit), 8));
        f.set(ma, f32x4.pmax(v128.load32_splat(i32.add(at.sa, s)), f.constant(NO_KEY)));
        f.set(mb, f32x4.pmax(v128.load32_splat(i32.add(at.sb, s)), f.constant(NO_KEY)));
        const most = f.local('v128', f32x4.pmax(ma, mb));
        for (const [w, m, stats] of [
          [wa, ma, at.sa],
          [wb, mb, at.sb],
        ] as const)
          f.set(
            w,
            f32x4.mul(
              v128.load32_splat(i32.add(stats, s), 4),
              exp2(f, features, f32x4.mul(f32x4.sub(m, most), f.constant(Math.LOG2E))),
            ),
          );
        f.set(inverse, f32x4.add(wa, wb));
        f.set(inverse, v128.andnot(f32x4.div(f.constant(1), inverse), f32x4.lt(inverse, f.constant(1e-30))));
        f.set(offset, times(i32.mul(i32.add(i32.mul(unit, at.H), h), at.D), 4));
        for (const [w, from, stats, d, dStats] of [
          [wa, at.oa, at.sa, at.doa, at.dsa],
          [wb, at.ob, at.sb, at.dob, at.dsb],
        ] as const) {
          f.set(w, f32x4.mul(w, inverse));
          f.set(part, i32.add(from, offset));
          f.set(o, i32.add(at.o, offset));
          f.set(dy, i32.add(at.dy, offset));
          f.set(to, i32.add(d, offset));
          f.set(sums[0], v128.zero);
          eachVector(f, at.D, [part, o, dy, to], 1, (lanes) => {
            f.set(share, f32x4.mul(lanes.load(dy), w));
            lanes.store(to, share);
            const apart = f32x4.sub(lanes.load(part), lanes.load(o));
            f.set(sums[0], f32x4.add(sums[0], lanes.keep(f32x4.mul(share, apart))));
          });
          reduce(f, sums, f32x4.add);
          f.set(to, i32.add(dStats, s));
          f.emit(v128.store32_lane(to, sums[0], 0));
          // The log-sum-exp by the sum.
          const sum = f.local('v128', v128.load32_splat(i32.add(stats, s), 4));
          f.set(sum, v128.and(f32x4.div(sums[0], sum), f32x4.gt(sum, v128.zero)));
          f.emit(v128.store32_lane(to, sum, 0, 4));
        }
      });
    });
  },
});
