import { i32 } from '../instructions.ts';
import { kernel, times } from './kernel.ts';

const FIELDS = { from: 'i32', w: 'i32', sums: 'i32', first: 'i32', K: 'i32', panelBytes: 'i32' } as const;

/** Rows of W `[rows, K]`, as they arrive, into panels `[N/panel][K][panel]`; row i becomes column `first` + i. A unit is one row. */
export const packFloat32Kernel = kernel({
  name: 'pack_float32',
  fields: FIELDS,
  build({ features: { panel } }, f, at, begin, end) {
    const [i, n, k, from, to] = f.localArray('i32', 5);
    f.for(i, begin, end, 1, () => {
      f.set(n, i32.add(at.first, i));
      f.set(from, i32.add(at.from, i32.mul(i, times(at.K, 4))));
      f.set(
        to,
        i32.add(
          i32.add(at.w, i32.mul(i32.div_u(n, i32.const(panel)), at.panelBytes)),
          times(i32.rem_u(n, i32.const(panel)), 4),
        ),
      );
      f.for(k, i32.const(0), at.K, 1, () => {
        f.emit(i32.store(to, i32.load(from)));
        f.increment(from, 4);
        f.increment(to, panel * 4);
      });
    });
  },
});

/** The same for int8 codes, in groups of 4 (or 2, for the 16-bit product) along K; writes each row's Σ of codes. */
export const packInt8Kernel = kernel({
  name: 'pack_int8',
  fields: FIELDS,
  build({ features: { panel, dot } }, f, at, begin, end) {
    const group = dot === 'i16' ? 2 : 4;
    const [i, n, k, from, to, sum, code] = f.localArray('i32', 7);
    f.for(i, begin, end, 1, () => {
      f.set(n, i32.add(at.first, i));
      f.set(from, i32.add(at.from, i32.mul(i, at.K)));
      f.set(
        to,
        i32.add(
          i32.add(at.w, i32.mul(i32.div_u(n, i32.const(panel)), at.panelBytes)),
          times(i32.rem_u(n, i32.const(panel)), group),
        ),
      );
      f.set(sum, i32.const(0));
      f.for(k, i32.const(0), at.K, 1, () => {
        f.set(code, i32.load8_s(i32.add(from, k)));
        f.set(sum, i32.add(sum, code));
        f.emit(i32.store8(i32.add(to, i32.and(k, i32.const(group - 1))), code));
        f.if(i32.eq(i32.and(k, i32.const(group - 1)), i32.const(group - 1)), () =>
          f.increment(to, panel * group),
        );
      });
      f.emit(i32.store(i32.add(at.sums, times(n, 4)), sum));
    });
  },
});
