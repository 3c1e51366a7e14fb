import type { FunctionBuilder } from '../../assembler.ts';
import { f32, f32x4, type I32, i32, v128 } from '../../instructions.ts';
import { type FastWeightsVariant, featureRows, pitchOf } from '../../kernels/fast-weights.ts';
import { eachHead, HEAD_FIELDS, headPlace } from '../../kernels/heads.ts';
import {
  eachVector,
  type KernelContext,
  kernel,
  multiplyAdd,
  plus,
  reduce,
  splat,
  times,
} from '../../kernels/kernel.ts';

/** Byte offsets of a thread's scratch: two states `[D′, D′]`, and rows of `D′`. */
function scratchOf(variant: Pick<FastWeightsVariant, 'headSize'>) {
  const row = pitchOf(variant) * 4;
  const state = pitchOf(variant) * row;
  const rows = 2 * state;
  return {
    state: 0,
    adjoint: state,
    read: rows,
    ofPhi: rows + row,
    ofError: rows + 2 * row,
    bytes: rows + 3 * row,
  };
}

export const fastWeightsGradientScratch = (variant: Pick<FastWeightsVariant, 'headSize'>): number =>
  scratchOf(variant).bytes;

/** `m [P, P] += scale · a ⊗ b`. */
function addOuterFunction({ module, features }: KernelContext, P: number): number {
  const madd = multiplyAdd(features);
  const parameters = { m: 'i32', a: 'i32', b: 'i32', scale: 'f32' } as const;
  return module.func('fast_weights_outer', parameters, (f, p) => {
    const end = f.local('i32', plus(p.a, P * 4));
    const factor = f.local('v128');
    const scale = f.local('v128', splat(p.scale));
    f.while(
      () => i32.lt_u(p.a, end),
      () => {
        f.set(factor, f32x4.mul(scale, v128.load32_splat(p.a)));
        for (let v = 0; v < P * 4; v += 16)
          f.emit(v128.store(p.m, madd(factor, v128.load(p.b, v), v128.load(p.m, v)), v));
        f.increment(p.m, P * 4);
        f.increment(p.a, 4);
      },
    );
  });
}

/** `y += scale · m x`, m `[P, P]`. */
function timesRowsFunction({ module, features }: KernelContext, P: number): number {
  const madd = multiplyAdd(features);
  const parameters = { m: 'i32', x: 'i32', y: 'i32', scale: 'f32' } as const;
  return module.func('fast_weights_rows', parameters, (f, p) => {
    const end = f.local('i32', plus(p.y, P * 4));
    const sums = f.localArray('v128', 2);
    f.while(
      () => i32.lt_u(p.y, end),
      () => {
        for (const sum of sums) f.set(sum, v128.zero);
        for (let v = 0; v < P * 4; v += 16)
          f.set(sums[(v >> 4) & 1], madd(v128.load(p.x, v), v128.load(p.m, v), sums[(v >> 4) & 1]));
        const sum = reduce(f, sums, f32x4.add);
        const y = f32x4.add(v128.load32_splat(p.y), f32x4.mul(splat(p.scale), sum));
        f.set(sum, y);
        f.emit(v128.store32_lane(p.y, sum, 0));
        f.increment(p.m, P * 4);
        f.increment(p.y, 4);
      },
    );
  });
}

/** `y += scale · mᵀ x`, m `[P, P]`. */
function timesColumnsFunction({ module, features }: KernelContext, P: number): number {
  const madd = multiplyAdd(features);
  const parameters = { m: 'i32', x: 'i32', y: 'i32', scale: 'f32' } as const;
  return module.func('fast_weights_columns', parameters, (f, p) => {
    const [column, m, x] = f.localArray('i32', 3);
    const sums = f.localArray('v128', 4);
    const weight = f.local('v128');
    f.for(column, i32.const(0), i32.const(P * 4), 32, () => {
      for (const sum of sums) f.set(sum, v128.zero);
      f.set(m, i32.add(p.m, column));
      f.for(x, p.x, plus(p.x, P * 4), 8, () => {
        for (let k = 0; k < 2; k++) {
          f.set(weight, v128.load32_splat(x, 4 * k));
          for (let j = 0; j < 2; j++)
            f.set(sums[2 * k + j], madd(weight, v128.load(m, k * P * 4 + 16 * j), sums[2 * k + j]));
        }
        f.increment(m, 2 * P * 4);
      });
      f.set(x, i32.add(p.y, column));
      for (let j = 0; j < 2; j++) {
        const sum = f32x4.mul(splat(p.scale), f32x4.add(sums[j], sums[2 + j]));
        f.emit(v128.store(x, f32x4.add(v128.load(x, 16 * j), sum), 16 * j));
      }
    });
  });
}

/** Writes the gradient of x over its features; `d` is theirs. */
function featureGradientFunction({ module }: KernelContext, variant: FastWeightsVariant): number {
  const P = pitchOf(variant);
  const parameters = { x: 'i32', phi: 'i32', d: 'i32' } as const;
  return module.func('fast_weights_features_gradient', parameters, (f, p) => {
    const along = f.localArray('v128', 1);
    const [x, phi, g] = f.localArray('v128', 3);
    for (let v = 0; v < P * 4; v += 16)
      f.set(along[0], f32x4.add(along[0], f32x4.mul(v128.load(p.phi, v), v128.load(p.d, v))));
    reduce(f, along, f32x4.add);
    for (let v = 0; v < P * 4; v += 16) {
      f.set(x, v128.load(p.x, v));
      f.set(phi, v128.load(p.phi, v));
      f.set(g, f32x4.mul(f32x4.sub(v128.load(p.d, v), f32x4.mul(phi, along[0])), phi));
      const above = f32x4.gt(x, v128.zero);
      const gradient =
        variant.feature === 'relu'
          ? v128.and(f32x4.div(g, x), above)
          : v128.bitselect(f32x4.div(g, f32x4.add(x, v128.f32x4(1))), g, above);
      f.emit(v128.store(p.phi, gradient, v));
    }
  });
}

/**
 * See `fastWeightsGradient`. A unit is one head of one sequence; its rows of dq, dk and dv hold features and what tokens
 * wrote until their gradients take the place.
 */
export const fastWeightsGradientKernel = (variant: FastWeightsVariant) =>
  kernel({
    name: `training_fast_weights_${variant.headSize}`,
    fields: { ...HEAD_FIELDS, dq: 'i32', dk: 'i32', dv: 'i32', B: 'i32', beta: 'f32' },
    build(context, f, at, begin, end) {
      const { headSize, causal } = variant;
      const P = pitchOf(variant);
      const scratch = scratchOf(variant);
      const features = featureRows(context, variant);
      const outer = addOuterFunction(context, P);
      const rows = timesRowsFunction(context, P);
      const columns = timesColumnsFunction(context, P);
      const featureGradient = featureGradientFunction(context, variant);
      const head = headPlace(f);
      const { b, h, q, k, v, length } = head;
      const base = f.local('i32', context.scratch(f));
      const place = (offset: number): I32 => plus(base, offset);
      const [dq, dk, dv, n, from, to] = f.localArray('i32', 6);
      const [state, adjoint] = [place(scratch.state), place(scratch.adjoint)];
      const [read, ofPhi, ofError] = [place(scratch.read), place(scratch.ofPhi), place(scratch.ofError)];
      const rowOf = (first: I32): I32 => i32.add(first, times(n, P * 4));
      const one = f32.const(1);
      const minus = f32.const(-1);
      const minusBeta = f32.mul(minus, at.beta);
      const clear = (first: I32, bytes: I32) => {
        f.set(to, i32.add(first, bytes));
        f.for(from, first, to, 16, () => f.emit(v128.store(from, v128.zero)));
      };
      const clearRow = (first: I32) => {
        for (let c = 0; c < P * 4; c += 16) f.emit(v128.store(first, v128.zero, c));
      };
      /** `to = beta · from`, a row. */
      const scaled = (source: I32, target: I32) => {
        for (let c = 0; c < P * 4; c += 16)
          f.emit(v128.store(target, f32x4.mul(splat(at.beta), v128.load(source, c)), c));
      };
      const write = () => {
        scaled(rowOf(v), rowOf(dv));
        f.call(columns, state, rowOf(dk), rowOf(dv), minusBeta);
        f.call(outer, state, rowOf(dk), rowOf(dv), one);
      };
      const readBack = () => {
        clearRow(read);
        const row = i32.add(i32.mul(i32.add(i32.mul(b, at.N), n), at.H), h);
        f.set(from, i32.add(at.o, times(row, headSize * 4)));
        f.set(to, read);
        eachVector(f, i32.const(headSize), [from, to], 1, (lanes) => lanes.store(to, lanes.load(from)));
        f.call(outer, adjoint, rowOf(dq), read, one);
        clearRow(ofPhi);
        f.call(rows, state, read, ofPhi, one);
        f.call(featureGradient, rowOf(q), rowOf(dq), ofPhi);
      };
      const writeBack = () => {
        clearRow(ofError);
        f.call(columns, adjoint, rowOf(dk), ofError, at.beta);
        clearRow(ofPhi);
        f.call(rows, adjoint, rowOf(dv), ofPhi, one);
        f.call(outer, state, rowOf(dk), rowOf(dv), minus);
        f.call(rows, state, ofError, ofPhi, minus);
        f.call(outer, adjoint, rowOf(dk), ofError, minus);
        for (let c = 0; c < P * 4; c += 16) f.emit(v128.store(rowOf(dv), v128.load(ofError, c), c));
        f.call(featureGradient, rowOf(k), rowOf(dk), ofPhi);
      };
      eachHead(f, at, begin, end, head, () => {
        const unit = i32.add(i32.mul(h, at.B), b);
        const bytes = (count: I32): I32 => times(count, P * 4);
        f.set(dq, i32.add(at.dq, i32.mul(unit, bytes(at.N))));
        f.set(dk, i32.add(at.dk, i32.mul(unit, bytes(at.S))));
        f.set(dv, i32.add(at.dv, i32.mul(unit, bytes(at.S))));
        clear(state, i32.const(2 * P * P * 4));
        f.call(features, q, dq, at.N);
        f.call(features, k, dk, length);
        for (const rest of [dk, dv]) clear(i32.add(rest, bytes(length)), bytes(i32.sub(at.S, length)));
        f.for(n, i32.const(0), length, 1, write);
        if (!causal) f.for(n, i32.const(0), at.N, 1, readBack);
        countDown(f, n, causal ? at.N : length, () => {
          if (causal) readBack();
          f.if(i32.lt_s(n, length), writeBack);
        });
      });
    },
  });

/** `for (n = count − 1; n ≥ 0; n--)`. */
function countDown(f: FunctionBuilder, n: ReturnType<typeof headPlace>['b'], count: I32, body: () => void) {
  f.set(n, i32.sub(count, i32.const(1)));
  f.while(
    () => i32.ge_s(n, i32.const(0)),
    () => {
      body();
      f.increment(n, -1);
    },
  );
}
