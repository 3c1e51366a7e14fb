import type { FastWeightFeature } from '../../../program/ops/fast-weights.ts';
import { f32x4, type I32, i32, v128 } from '../instructions.ts';
import { eachHead, HEAD_FIELDS, headPlace } from './heads.ts';
import { type KernelContext, kernel, multiplyAdd, plus, reduce, splat } from './kernel.ts';
import { ROWS, rowTile, tileRows } from './linear-attention-tiles.ts';
import { exp2 } from './math.ts';

export interface FastWeightsVariant {
  readonly headSize: number;
  readonly feature: FastWeightFeature;
  readonly causal: boolean;
}

/** The square of the least norm of features. */
const LEAST_SQUARES = 1e-30;
/** A tile of rows may begin at any row of a block. */
const SLACK_ROWS = 8;

/** D′: columns of a row of one head. */
export const pitchOf = ({ headSize }: Pick<FastWeightsVariant, 'headSize'>): number => (headSize + 7) & ~7;

/** Byte offsets of a thread's scratch. */
function scratchOf(variant: FastWeightsVariant) {
  const pitch = pitchOf(variant);
  const rows = (ROWS + SLACK_ROWS) * pitch * 4;
  const state = 3 * rows;
  /** Features of keys and of queries, outputs, each `[ROWS, D′]`; the state in panels of 8 columns, `[D′ / 8, D′, 8]`. */
  return { pitch, keys: 0, queries: rows, outputs: 2 * rows, state, bytes: state + pitch * pitch * 4 };
}

export const fastWeightsScratch = (variant: FastWeightsVariant): number => scratchOf(variant).bytes;

/** Features of `count` rows, their norm 1. */
export function featureRows({ module, features }: KernelContext, variant: FastWeightsVariant): number {
  const { headSize, feature } = variant;
  const pitch = pitchOf(variant);
  return module.func('fast_weights_features', { x: 'i32', out: 'i32', count: 'i32' }, (f, p) => {
    const [i, end] = f.localArray('i32', 2);
    const [x, scale, squares] = f.localArray('v128', 3);
    const zero = f.local('v128', v128.zero);
    f.while(
      () => p.count,
      () => {
        f.set(end, plus(p.out, pitch * 4));
        f.for(i, p.out, end, 16, () => {
          f.set(x, v128.load(p.x));
          f.emit(
            v128.store(
              i,
              feature === 'relu'
                ? f32x4.pmax(x, zero)
                : v128.bitselect(
                    f32x4.add(x, f.constant(1)),
                    exp2(f, features, f32x4.mul(f32x4.pmin(x, zero), f.constant(Math.LOG2E))),
                    f32x4.gt(x, zero),
                  ),
            ),
          );
          f.increment(p.x, 16);
        });
        // Columns past the head have no feature.
        for (let v = headSize >> 2; v < pitch / 4; v++) {
          const inside = v128.i32x4(...[0, 1, 2, 3].map((lane) => (4 * v + lane < headSize ? -1 : 0)));
          f.emit(v128.store(p.out, v128.and(v128.load(p.out, 16 * v), inside), 16 * v));
        }
        f.set(squares, zero);
        f.for(i, p.out, end, 16, () =>
          f.set(squares, f32x4.add(squares, f32x4.mul(v128.load(i), v128.load(i)))),
        );
        reduce(f, [squares], f32x4.add);
        f.set(scale, f32x4.div(f.constant(1), f32x4.sqrt(f32x4.pmax(squares, f.constant(LEAST_SQUARES)))));
        f.for(i, p.out, end, 16, () => f.emit(v128.store(i, f32x4.mul(v128.load(i), scale))));
        f.set(p.out, end);
        f.increment(p.count, -1);
      },
    );
  });
}

/**
 * `count` tokens write 8 columns of the state `[D′][8]`, one after another; with `causal` each then reads them with its
 * query. Columns do not touch each other, so that they go one panel after the other through a block of tokens.
 */
function writeTokens({ module, features }: KernelContext, variant: FastWeightsVariant): number {
  const { causal } = variant;
  const { pitch } = scratchOf(variant);
  const madd = multiplyAdd(features);
  const parameters = {
    phi: 'i32',
    v: 'i32',
    state: 'i32',
    count: 'i32',
    q: 'i32',
    o: 'i32',
    beta: 'f32',
  } as const;
  return module.func('fast_weights_write', parameters, (f, p) => {
    const acc = f.localArray('v128', 8);
    const error = f.localArray('v128', 2);
    const [weight, asked, x] = f.localArray('v128', 3);
    const beta = f.local('v128', splat(p.beta));
    const [s, i] = f.localArray('i32', 2);
    const end = f.local('i32', plus(p.state, pitch * 32));
    const each = (body: (k: number, j: number) => void, start: (k: number) => void) => {
      f.set(i, i32.const(0));
      f.for(s, p.state, end, 128, () => {
        for (let k = 0; k < 4; k++) {
          start(k);
          for (let j = 0; j < 2; j++) body(k, j);
        }
        f.increment(i, 16);
      });
    };
    const clear = () => {
      for (const a of acc) f.set(a, v128.zero);
    };
    const sumOf = (j: number) => f32x4.add(f32x4.add(acc[j], acc[2 + j]), f32x4.add(acc[4 + j], acc[6 + j]));
    f.while(
      () => p.count,
      () => {
        clear();
        each(
          (k, j) => f.set(acc[2 * k + j], madd(weight, v128.load(s, 32 * k + 16 * j), acc[2 * k + j])),
          (k) => f.set(weight, v128.load32_splat(i32.add(p.phi, i), 4 * k)),
        );
        for (let j = 0; j < 2; j++)
          f.set(error[j], f32x4.mul(beta, f32x4.sub(v128.load(p.v, 16 * j), sumOf(j))));
        if (causal) clear();
        each(
          (k, j) => {
            f.set(x, madd(weight, error[j], v128.load(s, 32 * k + 16 * j)));
            f.emit(v128.store(s, x, 32 * k + 16 * j));
            if (causal) f.set(acc[2 * k + j], madd(asked, x, acc[2 * k + j]));
          },
          (k) => {
            f.set(weight, v128.load32_splat(i32.add(p.phi, i), 4 * k));
            if (causal) f.set(asked, v128.load32_splat(i32.add(p.q, i), 4 * k));
          },
        );
        if (causal) for (let j = 0; j < 2; j++) f.emit(v128.store(p.o, sumOf(j), 16 * j));
        for (const cursor of [p.phi, p.v, p.q, p.o]) f.increment(cursor, pitch * 4);
        f.increment(p.count, -1);
      },
    );
  });
}

/** Delta-rule memory: one unit of work is one head of one sequence, its tokens in order. */
export function fastWeightsKernel(variant: FastWeightsVariant) {
  const { headSize, causal } = variant;
  const scratch = scratchOf(variant);
  const { pitch } = scratch;
  return kernel({
    name: `fast_weights_${headSize}`,
    fields: {
      ...HEAD_FIELDS,
      beta: 'f32',
    },
    build(context, f, at, begin, end) {
      const rows = tileRows(context);
      const feature = featureRows(context, variant);
      const write = writeTokens(context, variant);
      const read = rowTile(context, pitch, rows, pitch * 4, 'none');
      const head = headPlace(f);
      const { b, h, q, k, v, length } = head;
      const [o, row, count, written, x, y] = f.localArray('i32', 6);
      const base = f.local('i32', context.scratch(f));
      const place = (offset: number): I32 => plus(base, offset);
      const rowsFrom = (from: I32, rowAt: I32): I32 => i32.add(from, i32.mul(rowAt, i32.const(pitch * 4)));

      const writeBlock = () => {
        f.call(feature, rowsFrom(k, row), place(scratch.keys), written);
        for (let column = 0; column < pitch; column += 8)
          f.call(
            write,
            place(scratch.keys),
            plus(rowsFrom(v, row), column * 4),
            place(scratch.state + column * pitch * 4),
            written,
            place(scratch.queries),
            place(scratch.outputs + column * 4),
            at.beta,
          );
      };
      /** Rows from `first` on read the state as it is. */
      const readBlock = (first: I32) => {
        for (let column = 0; column < pitch; column += 8)
          f.for(x, first, count, rows, () =>
            f.call(
              read,
              rowsFrom(place(scratch.queries), x),
              place(scratch.state + column * pitch * 4),
              rowsFrom(place(scratch.outputs + column * 4), x),
              i32.const(0),
              i32.const(0),
            ),
          );
      };
      const copyOut = () => {
        f.set(x, place(scratch.outputs));
        f.for(y, i32.const(0), count, 1, () => {
          for (let c = 0; c + 4 <= headSize; c += 4) f.emit(v128.store(o, v128.load(x, 4 * c), 4 * c));
          for (let c = headSize & ~3; c < headSize; c++)
            f.emit(v128.store32_lane(o, v128.load32_splat(x, 4 * c), 0, 4 * c));
          f.increment(x, pitch * 4);
          f.set(o, i32.add(o, i32.mul(at.H, i32.const(headSize * 4))));
        });
      };

      eachHead(f, at, begin, end, head, () => {
        f.set(
          o,
          i32.add(at.o, i32.mul(i32.add(i32.mul(i32.mul(b, at.N), at.H), h), i32.const(headSize * 4))),
        );
        f.for(x, place(scratch.state), place(scratch.bytes), 16, () => f.emit(v128.store(x, v128.zero)));
        if (!causal)
          f.for(row, i32.const(0), length, ROWS, () => {
            f.set(written, i32.min_s(i32.const(ROWS), i32.sub(length, row)));
            writeBlock();
          });
        f.for(row, i32.const(0), at.N, ROWS, () => {
          f.set(count, i32.min_s(i32.const(ROWS), i32.sub(at.N, row)));
          f.call(feature, rowsFrom(q, row), place(scratch.queries), count);
          if (causal) {
            f.set(written, i32.max_s(i32.const(0), i32.min_s(count, i32.sub(length, row))));
            writeBlock();
            readBlock(written);
          } else readBlock(i32.const(0));
          copyOut();
        });
      });
    },
  });
}
