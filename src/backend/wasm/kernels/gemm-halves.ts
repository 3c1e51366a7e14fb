import { i32, i32x4, v128 } from '../instructions.ts';
import { float32Product } from './gemm-float32.ts';
import type { ProductFamily } from './gemm-tile.ts';
import { widenHalf } from './half.ts';
import { type KernelContext, kernel, times } from './kernel.ts';
import { eachPackedRow, PACK_FIELDS } from './pack.ts';

/** The two ways of 16 bits. */
export type HalfCodec = 'float16' | 'bfloat16';

/** Writes a panel's floats of 16 bits as 32 to `to`. */
function openPanel({ module, features: { panel } }: KernelContext, name: string, codec: HalfCodec): number {
  const parameters = { b: 'i32', to: 'i32', K: 'i32', scales: 'i32', group: 'i32' } as const;
  return module.func(`${name}_open`, parameters, (f, p) => {
    const left = f.local('i32', p.K);
    const h = f.local('v128');
    f.while(
      () => left,
      () => {
        for (let j = 0; j < panel / 4; j++) {
          f.set(h, v128.load16x4_u(p.b, 8 * j));
          f.emit(
            v128.store(p.to, codec === 'float16' ? widenHalf(f, h) : i32x4.shl(h, i32.const(16)), 16 * j),
          );
        }
        f.increment(p.b, 2 * panel);
        f.increment(p.to, 4 * panel);
        f.increment(left, -1);
      },
    );
  });
}

/** Floats of 16 bits: a panel is widened once in this thread's scratch, and then multiplied as floats are. */
export const halvesProduct = (codec: HalfCodec): ProductFamily => ({
  name: codec,
  most: () => 0,
  tile: float32Product.tile,
  opened: {
    most: float32Product.most,
    open: (context, name) => openPanel(context, name, codec),
    tile: float32Product.tile,
  },
});

/** Rows of W `[rows, K]` of 16 bits into panels `[N/panel][K][panel]`. */
export const packHalvesKernel = kernel({
  name: 'pack_halves',
  fields: PACK_FIELDS,
  build({ features: { panel } }, f, at, begin, end) {
    const k = f.local('i32');
    eachPackedRow(f, at, begin, end, panel, (row) => {
      f.set(row.panel, i32.add(row.panel, times(row.column, 2)));
      f.for(k, i32.const(0), at.K, 1, () => {
        f.emit(i32.store16(row.panel, i32.load16_u(row.from)));
        f.increment(row.from, 2);
        f.increment(row.panel, panel * 2);
      });
    });
  },
});
