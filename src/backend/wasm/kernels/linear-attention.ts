import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, i32x4, v128 } from '../instructions.ts';
import { packKeys } from './attention-tiles.ts';
import { type KernelContext, kernel, plus, reduce, times } from './kernel.ts';
import {
  exponentials,
  NO_EXPONENT,
  prepareRows,
  rectified,
  softmaxHalves,
  stabilisers,
} from './linear-attention-features.ts';
import {
  columnSums,
  denominators,
  outputTile,
  PANEL_BYTES,
  ROWS,
  rowTile,
  scaleFloats,
  stateTile,
  tileRows,
} from './linear-attention-tiles.ts';
import { exp2 } from './math.ts';

/** What one kernel of linear attention is generated for. */
export interface LinearAttentionVariant {
  readonly map: 'performer' | 'hedgehog' | 'halves' | 'relu' | 'cosformer';
  readonly headSize: number;
  /** Rows of W; the padded head where there is none. */
  readonly features: number;
}

/** Byte offsets of a thread's scratch: nothing in it grows with the length. */
function scratchOf({ map, headSize, features }: LinearAttentionVariant) {
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

const FIELDS = {
  /** Address of the first head of the first sequence, then the bytes from a head and from a sequence to the next. */
  q: 'i32',
  qHead: 'i32',
  qBatch: 'i32',
  k: 'i32',
  kHead: 'i32',
  kBatch: 'i32',
  v: 'i32',
  vHead: 'i32',
  vBatch: 'i32',
  o: 'i32',
  /** Lengths of the sequences; 0 where every key is there. */
  lengths: 'i32',
  /** W, and the bytes from one head of it to the next; 0 where all share one. */
  w: 'i32',
  wHead: 'i32',
  /** Cosine and sine of each position. */
  angles: 'i32',
  /** Factor on rows that makes exponents powers of 2. */
  scale: 'f32',
  epsilon: 'f32',
  N: 'i32',
  S: 'i32',
  H: 'i32',
} as const;
type At = { [K in keyof typeof FIELDS]: Variable<(typeof FIELDS)[K]> };

/** The features of one block: what is made once for a module, and how a block's `count` rows from `x` on go through it. */
function featurePass(
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

/**
 * Attention by feature maps, O(N) in time: one pass over blocks of keys gathers φ(K)ᵀV and φ(K)ᵀ1, one over blocks of
 * queries reads them. Exponents of keys are taken against their running maximum, and what was gathered is rescaled when
 * that grows. A unit of work is one head of one sequence.
 */
export function linearAttentionKernel(variant: LinearAttentionVariant) {
  const { map, headSize, features } = variant;
  const scratch = scratchOf(variant);
  const { pitch, M, projected } = scratch;
  return kernel({
    name: `linear_attention_${map}_${headSize}_${features}`,
    fields: FIELDS,
    build(context, f, at, begin, end) {
      const rows = tileRows(context);
      const pack = packKeys(context, pitch);
      const gather = stateTile(context, pitch);
      const output = outputTile(context, M, rows, pitch);
      const sum = columnSums(context);
      const denominate = denominators(context, M);
      const [unit, b, h, q, k, v, o, length, row, count, d, panel, x, y] = f.localArray('i32', 14);
      const base = f.local('i32', context.scratch(f));
      const [numerator, denominator, addend] = f.localArray('v128', 3);
      const place = (offset: number): I32 => plus(base, offset);
      const feature = featurePass(context, f, at, variant, base);
      const source = (name: 'q' | 'k' | 'v') =>
        i32.add(at[name], i32.add(i32.mul(h, at[`${name}Head`]), i32.mul(b, at[`${name}Batch`])));
      const rowAt = (from: I32): I32 => i32.add(from, i32.mul(row, i32.const(pitch * 4)));
      const blocks = (total: I32, body: () => void) =>
        f.for(row, i32.const(0), total, ROWS, () => {
          f.set(count, i32.min_s(i32.const(ROWS), i32.sub(total, row)));
          body();
        });

      const blockOfKeys = () => {
        feature('keys', rowAt(k), row, count);
        f.set(y, place(scratch.sums));
        f.set(x, place(scratch.state));
        f.for(panel, place(scratch.phi), place(scratch.phi + (M / 8) * PANEL_BYTES), PANEL_BYTES, () => {
          f.call(sum, panel, i32.const(32), count, y);
          for (let column = 0; column < pitch; column += 8)
            for (let half = 0; half < 2; half++)
              f.call(
                gather,
                plus(panel, half * 16),
                plus(rowAt(v), column * 4),
                plus(x, column * M * 4 + half * 128),
                count,
              );
          f.increment(y, 32);
          f.increment(x, 256);
        });
        if (map === 'performer')
          for (let column = 0; column < pitch; column += 8)
            f.call(
              sum,
              plus(rowAt(v), column * 4),
              i32.const(pitch * 4),
              count,
              place(scratch.values + column * 4),
            );
      };

      /** What ε adds to the features of every key: ε Σ V to each row of the state, ε times the keys to each sum. */
      const addEpsilon = () => {
        const epsilon = f.local('v128', f32x4.splat(at.epsilon));
        for (let column = 0; column < pitch; column += 8)
          for (let half = 0; half < 2; half++) {
            f.set(addend, f32x4.mul(epsilon, v128.load(place(scratch.values + column * 4 + half * 16))));
            const from = scratch.state + column * M * 4 + half * 16;
            f.for(x, place(from), place(from + M * 32), 32, () =>
              f.emit(v128.store(x, f32x4.add(v128.load(x), addend))),
            );
          }
        f.set(addend, f32x4.mul(epsilon, f32x4.splat(f32.convert_i32_s(length))));
        f.for(x, place(scratch.sums), place(scratch.sums + M * 4), 16, () =>
          f.emit(v128.store(x, f32x4.add(v128.load(x), addend))),
        );
      };

      const blockOfQueries = () => {
        feature('queries', rowAt(q), row, count);
        f.call(denominate, place(scratch.phi), place(scratch.sums), place(scratch.denominators), count);
        for (let column = 0; column < pitch; column += 8)
          f.for(x, i32.const(0), count, rows, () =>
            f.call(
              output,
              i32.add(place(scratch.phi), times(x, 32)),
              place(scratch.state + column * M * 4),
              i32.add(place(scratch.rows + column * 4), i32.mul(x, i32.const(pitch * 4))),
            ),
          );
        f.set(x, place(scratch.rows));
        f.for(d, i32.const(0), times(count, 16), 16, () => {
          f.set(denominator, v128.load(i32.add(place(scratch.denominators), d)));
          reduce(f, [denominator], f32x4.add);
          // Nothing to attend to, or no feature in common: the row is 0.
          const share = (offset: number) => {
            f.set(numerator, f32x4.div(v128.load(x, offset), denominator));
            return v128.andnot(numerator, f32x4.eq(denominator, v128.zero));
          };
          for (let c = 0; c + 4 <= headSize; c += 4) f.emit(v128.store(o, share(4 * c), 4 * c));
          const tail = headSize & ~3;
          if (tail < headSize) {
            f.set(numerator, share(4 * tail));
            for (let c = tail; c < headSize; c++) f.emit(v128.store32_lane(o, numerator, c - tail, 4 * c));
          }
          f.increment(x, pitch * 4);
          f.set(o, i32.add(o, i32.mul(at.H, i32.const(headSize * 4))));
        });
      };

      const zeroed = scratch.offsets - scratch.state;
      if (projected)
        f.if(i32.eqz(at.wHead), () => f.call(pack, at.w, place(scratch.weights), i32.const(features)));
      f.for(unit, begin, end, 1, () => {
        f.set(b, i32.div_u(unit, at.H));
        f.set(h, i32.rem_u(unit, at.H));
        f.set(q, source('q'));
        f.set(k, source('k'));
        f.set(v, source('v'));
        f.set(length, at.S);
        f.if(at.lengths, () => f.set(length, i32.min_s(i32.load(i32.add(at.lengths, times(b, 4))), at.S)));
        if (projected)
          f.if(at.wHead, () =>
            f.call(pack, i32.add(at.w, i32.mul(h, at.wHead)), place(scratch.weights), i32.const(features)),
          );
        f.for(x, place(scratch.state), place(scratch.state + zeroed), 16, () =>
          f.emit(v128.store(x, v128.zero)),
        );
        f.emit(v128.store(place(scratch.top), v128.f32x4(NO_EXPONENT)));
        blocks(length, blockOfKeys);
        if (map === 'performer') addEpsilon();
        f.set(
          o,
          i32.add(at.o, i32.mul(i32.add(i32.mul(i32.mul(b, at.N), at.H), h), i32.const(headSize * 4))),
        );
        blocks(at.N, blockOfQueries);
      });
    },
  });
}
