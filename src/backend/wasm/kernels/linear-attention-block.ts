import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, v128 } from '../instructions.ts';
import { HEAD_FIELDS } from './heads.ts';
import { type KernelContext, plus, times } from './kernel.ts';
import {
  exponentials,
  prepareRows,
  rectified,
  softmaxHalves,
  stabilisers,
} from './linear-attention-features.ts';
import { PANEL_BYTES, ROWS, rowTile, scaleFloats, tileRows } from './linear-attention-tiles.ts';
import { exp2 } from './math.ts';

/** What one kernel of linear attention is generated for. */
export interface LinearAttentionVariant {
  readonly map: 'performer' | 'hedgehog' | 'halves' | 'relu' | 'cosformer';
  readonly headSize: number;
  /** Rows of W; the padded head where there is none. */
  readonly features: number;
}

/** Byte offsets of a thread's scratch: nothing in it grows with the length. */
export function scratchOf({ map, headSize, features }: LinearAttentionVariant) {
  const pitch = (headSize + 7) & ~7;
  const M = map === 'performer' || map === 'relu' ? features : 2 * features;
  const projected = map !== 'relu' && map !== 'cosformer';
  let bytes = 0;
  const take = (size: number) => {
    bytes += size;
    return bytes - size;
  };
  const places = {
    pitch,
    M,
    projected,
    /** Scaled rows, later the outputs, `[ROWS, D′]`. */
    rows: take(ROWS * pitch * 4),
    /** Features in panels of 8, `[M / 8, ROWS, 8]`. */
    phi: take((M / 8) * PANEL_BYTES),
    /** W in panels of 8 features, `[m / 8, D′, 8]`. */
    weights: take(projected ? features * pitch * 4 : 0),
    /** φ(K)ᵀV in panels of 8 columns, `[D′ / 8, M, 8]`; right behind it φ(K)ᵀ1 `[M]`. */
    state: take(M * pitch * 4),
    sums: take(M * 4),
    /** Σ V `[D′]`. */
    values: take(pitch * 4),
    offsets: take(ROWS * 4),
    /** Stabilisers of the rows, and denominators, four lanes each. */
    largest: take(ROWS * 16),
    denominators: take(ROWS * 16),
    /** Largest exponent of all keys so far. */
    top: take(16),
  };
  return { ...places, bytes };
}

/** Bytes of scratch that one thread needs. */
export const linearAttentionScratch = (variant: LinearAttentionVariant): number => scratchOf(variant).bytes;

export const FIELDS = {
  ...HEAD_FIELDS,
  /** W, and the bytes from one head of it to the next; 0 where all share one. */
  w: 'i32',
  wHead: 'i32',
  /** Cosine and sine of each position. */
  angles: 'i32',
  /** Factor on rows that makes exponents powers of 2. */
  scale: 'f32',
  epsilon: 'f32',
} as const;
type At = { [K in keyof typeof FIELDS]: Variable<(typeof FIELDS)[K]> };

/** The features of one block: what is made once for a module, and how a block's `count` rows from `x` on go through it. */
export function featurePass(
  context: KernelContext,
  f: FunctionBuilder,
  at: At,
  variant: LinearAttentionVariant,
  base: Variable<'i32'>,
) {
  const { map } = variant;
  const scratch = scratchOf(variant);
  const { pitch, M } = scratch;
  const [i, panel, to] = f.localArray('i32', 3);
  const place = (offset: number): I32 => plus(base, offset);
  if (!scratch.projected) {
    const relu = rectified(context, pitch, map === 'cosformer');
    return (_role: 'keys' | 'queries', x: I32, first: I32, count: I32) =>
      f.call(relu, x, place(scratch.phi), count, i32.add(at.angles, times(first, 8)));
  }
  const rows = tileRows(context);
  const panels = variant.features / 8;
  const prepare = prepareRows(context, pitch);
  const signed = rowTile(context, pitch, rows, 32, map === 'performer' ? 'signed' : 'absolute');
  const exponential = exponentials(context, map === 'hedgehog');
  const stabilise = { keys: stabilisers(context, true), queries: stabilisers(context, false) };
  const halves = map === 'halves' ? softmaxHalves(context, panels) : 0;
  const rescale = scaleFloats(context);
  const [before, after] = f.localArray('v128', 2);
  return (role: 'keys' | 'queries', x: I32, _first: I32, count: I32) => {
    // A query's own norm cancels against its stabiliser; half the squared norm of a scaled row is ln 2 / 2 times its squares.
    const factor = map === 'performer' && role === 'keys' ? Math.LN2 / 2 : 0;
    f.call(
      prepare,
      x,
      place(scratch.rows),
      place(scratch.offsets),
      place(scratch.largest),
      count,
      at.scale,
      f32.const(factor),
    );
    f.set(panel, place(scratch.weights));
    f.for(to, place(scratch.phi), place(scratch.phi + panels * PANEL_BYTES), PANEL_BYTES, () => {
      f.for(i, i32.const(0), count, rows, () =>
        f.call(
          signed,
          i32.add(place(scratch.rows), i32.mul(i, i32.const(pitch * 4))),
          panel,
          i32.add(to, times(i, 32)),
          i32.add(place(scratch.offsets), times(i, 4)),
          i32.add(place(scratch.largest), times(i, 16)),
        ),
      );
      f.increment(panel, pitch * 32);
    });
    if (map === 'halves') {
      f.call(halves, place(scratch.phi), count);
      return;
    }
    f.set(before, v128.load32_splat(place(scratch.top)));
    f.call(stabilise[role], place(scratch.largest), count, place(scratch.top));
    if (role === 'keys') {
      f.set(after, v128.load32_splat(place(scratch.top)));
      f.if(i32x4.lane(f32x4.gt(after, before), 0), () =>
        f.call(
          rescale,
          place(scratch.state),
          i32.const(M * (pitch + 1) * 4),
          f32x4.lane(exp2(f, context.features, f32x4.sub(before, after)), 0),
        ),
      );
    }
    f.for(to, place(scratch.phi), place(scratch.phi + panels * PANEL_BYTES), PANEL_BYTES, () =>
      f.call(
        exponential,
        to,
        plus(to, panels * PANEL_BYTES),
        place(scratch.largest),
        count,
        // Those of the keys come in at the end, when the stabiliser no longer grows.
        role === 'queries' ? at.epsilon : f32.const(0),
      ),
    );
  };
}
