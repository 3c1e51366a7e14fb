import type { FunctionBuilder, Variable } from '../assembler.ts';
import { type I32, i32 } from '../instructions.ts';
import { type Features, kernel, times } from './kernel.ts';

/** What a kernel reads that puts rows of a weight's section into panels; row i becomes column `first` + i. A unit is one row. */
export const PACK_FIELDS = {
  /** Where the rows wait, and the bytes of one. */
  from: 'i32',
  rowBytes: 'i32',
  w: 'i32',
  panelBytes: 'i32',
  first: 'i32',
  /** Columns of the weight. */
  K: 'i32',
  /** One number a column: the sum of codes, then the correction. */
  sums: 'i32',
  /** As `PanelLayout` has them. */
  group: 'i32',
  scalesAt: 'i32',
  zerosAt: 'i32',
} as const;
export type PackFields = { readonly [K in keyof typeof PACK_FIELDS]: number };
type At = { [K in keyof typeof PACK_FIELDS]: Variable<'i32'> };

/** Walks the rows: `from` at a row's first byte, `panel` at the panel that holds its column, which is `column` of it. */
export function eachPackedRow(
  f: FunctionBuilder,
  at: At,
  begin: I32,
  end: I32,
  width: number,
  body: (row: Record<'from' | 'panel' | 'column' | 'sum', Variable<'i32'>>) => void,
): void {
  const [i, n, from, panel, column, sum] = f.localArray('i32', 6);
  f.for(i, begin, end, 1, () => {
    f.set(n, i32.add(at.first, i));
    f.set(from, i32.add(at.from, i32.mul(i, at.rowBytes)));
    f.set(panel, i32.add(at.w, i32.mul(i32.div_u(n, i32.const(width)), at.panelBytes)));
    f.set(column, i32.rem_u(n, i32.const(width)));
    f.set(sum, i32.add(at.sums, times(n, 4)));
    body({ from, panel, column, sum });
  });
}

/** Rows of W `[rows, K]`, as they arrive, into panels `[N/panel][K][panel]`. */
export const packFloat32Kernel = kernel({
  name: 'pack_float32',
  fields: PACK_FIELDS,
  build({ features: { panel } }, f, at, begin, end) {
    const k = f.local('i32');
    eachPackedRow(f, at, begin, end, panel, (row) => {
      f.set(row.panel, i32.add(row.panel, times(row.column, 4)));
      f.for(k, i32.const(0), at.K, 1, () => {
        f.emit(i32.store(row.panel, i32.load(row.from)));
        f.increment(row.from, 4);
        f.increment(row.panel, panel * 4);
      });
    });
  },
});

/** Codes along K that stand together: what one step of a dot takes. */
export const depthOf = ({ dot }: Features): 2 | 4 => (dot === 'i16' ? 2 : 4);

/** The same for int8 codes, in groups along K; writes each row's Σ of codes. */
export const packInt8Kernel = kernel({
  name: 'pack_int8',
  fields: PACK_FIELDS,
  build({ features }, f, at, begin, end) {
    const depth = depthOf(features);
    const [k, sum, code] = f.localArray('i32', 3);
    eachPackedRow(f, at, begin, end, features.panel, (row) => {
      f.set(row.panel, i32.add(row.panel, times(row.column, depth)));
      f.set(sum, i32.const(0));
      f.for(k, i32.const(0), at.K, 1, () => {
        f.set(code, i32.load8_s(i32.add(row.from, k)));
        f.set(sum, i32.add(sum, code));
        f.emit(i32.store8(i32.add(row.panel, i32.and(k, i32.const(depth - 1))), code));
        f.if(i32.eq(i32.and(k, i32.const(depth - 1)), i32.const(depth - 1)), () =>
          f.increment(row.panel, features.panel * depth),
        );
      });
      f.emit(i32.store(row.sum, sum));
    });
  },
});
