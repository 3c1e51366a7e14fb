import type { Activation } from '../../../program/ops/activation.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i16x8, i32, i32x4, type V128, v128 } from '../instructions.ts';
import { type Features, type KernelContext, kernel, multiplyAdd, ONES_AT, plus, times } from './kernel.ts';
import { activate } from './math.ts';

/**
 * `y = activation(x Wᵀ + b) + residual` by register tiles: panels of W's columns, blocks of rows that stay in the
 * second cache level. A unit of work is one block of rows times one group of panels.
 */
const FIELDS = {
  a: 'i32',
  rowScales: 'i32',
  w: 'i32',
  scales: 'i32',
  corrections: 'i32',
  bias: 'i32',
  c: 'i32',
  residual: 'i32',
  M: 'i32',
  K: 'i32',
  /** Bytes from one row of a, and of c, to the next. */
  lda: 'i32',
  ldc: 'i32',
  panels: 'i32',
  panelBytes: 'i32',
  /** Columns of the last panel that exist. */
  lastColumns: 'i32',
  /** Panels of one head and bytes between heads; one group where the output is not laid out by head. */
  panelsPerHead: 'i32',
  headBytes: 'i32',
  rowsPerBlock: 'i32',
  panelsPerUnit: 'i32',
  unitsPerBlock: 'i32',
} as const;
type At = { [K in keyof typeof FIELDS]: Variable<'i32'> };

const TILE = {
  a: 'i32',
  b: 'i32',
  c: 'i32',
  K: 'i32',
  lda: 'i32',
  ldc: 'i32',
  bias: 'i32',
  scales: 'i32',
  corrections: 'i32',
  rowScales: 'i32',
} as const;

const rowPointers = (
  f: FunctionBuilder,
  first: Variable<'i32'>,
  rows: number,
  step: I32,
): Variable<'i32'>[] => {
  const out = [first];
  for (let i = 1; i < rows; i++) out.push(f.local('i32', i32.add(out[i - 1], step)));
  return out;
};

/** A tile of `rows` by one panel, in a function of its own: V8 allocates registers function by function. */
function float32Tile({ module, features }: KernelContext, name: string, rows: number): number {
  const vectors = features.panel / 4;
  const madd = multiplyAdd(features);
  return module.func(`${name}_${rows}`, TILE, (f, p) => {
    const acc = f.localArray('v128', rows * vectors);
    const b = f.localArray('v128', vectors);
    const a = f.local('v128');
    const end = f.local('i32', i32.add(p.a, times(p.K, 4)));
    const row = rowPointers(f, p.a, rows, p.lda);
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < vectors; j++) f.set(acc[i * vectors + j], v128.load(p.bias, 16 * j));
    f.while(
      () => i32.lt_u(p.a, end),
      () => {
        for (let j = 0; j < vectors; j++) f.set(b[j], v128.load(p.b, 16 * j));
        for (let i = 0; i < rows; i++) {
          f.set(a, v128.load32_splat(row[i]));
          for (let j = 0; j < vectors; j++) f.set(acc[i * vectors + j], madd(a, b[j], acc[i * vectors + j]));
        }
        f.increment(p.b, 16 * vectors);
        for (const r of row) f.increment(r, 4);
      },
    );
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < vectors; j++) f.emit(v128.store(p.c, acc[i * vectors + j], 16 * j));
      if (i < rows - 1) f.set(p.c, i32.add(p.c, p.ldc));
    }
  });
}

/** `c + w · a` over the depth that one vector of weights spans. */
export function integerDot(f: FunctionBuilder, { dot }: Features): (w: V128, a: V128, c: V128) => V128 {
  if (dot === 'i16') return (w, a, c) => i32x4.add(c, i32x4.dot_i16x8_s(a, w));
  if (dot !== 'u7') return i32x4.relaxed_dot_i8x16_i7x16_add_s;
  // Without a fused instruction V8 makes the vector of ones anew at each dot: kept in a local, it is one product less.
  const ones = f.local('v128', v128.load(i32.const(ONES_AT)));
  return (w, a, c) => i32x4.add(c, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(w, a), ones));
}

/**
 * The same in integers: `scale(row) · scale(column) · Σ code·w − offset(row) · correction(column) + bias`, where
 * correction = scale(column) · Σw. Depth in steps of 4 bytes of activations (4 codes, or 2 of 16 bits).
 */
function int8Tile({ module, features }: KernelContext, name: string, rows: number): number {
  const vectors = features.panel / 4;
  const wide = features.dot === 'i16';
  return module.func(`${name}_${rows}`, TILE, (f, p) => {
    const acc = f.localArray('v128', rows * vectors);
    const b = f.localArray('v128', vectors);
    const a = f.local('v128');
    const offset = f.local('v128');
    const end = f.local('i32', i32.add(p.a, times(p.K, wide ? 2 : 1)));
    const row = rowPointers(f, p.a, rows, p.lda);
    for (const x of acc) f.set(x, v128.zero);
    const dot = integerDot(f, features);
    f.while(
      () => i32.lt_u(p.a, end),
      () => {
        for (let j = 0; j < vectors; j++)
          f.set(b[j], wide ? v128.load8x8_s(p.b, 8 * j) : v128.load(p.b, 16 * j));
        for (let i = 0; i < rows; i++) {
          f.set(a, v128.load32_splat(row[i]));
          for (let j = 0; j < vectors; j++) {
            const at = acc[i * vectors + j];
            f.set(at, dot(b[j], a, at));
          }
        }
        f.increment(p.b, (wide ? 8 : 16) * vectors);
        for (const r of row) f.increment(r, 4);
      },
    );
    for (let i = 0; i < rows; i++) {
      f.set(a, v128.load32_splat(p.rowScales, 8 * i));
      f.set(offset, v128.load32_splat(p.rowScales, 8 * i + 4));
      for (let j = 0; j < vectors; j++) {
        const product = f32x4.mul(
          f32x4.mul(f32x4.convert_i32x4_s(acc[i * vectors + j]), a),
          v128.load(p.scales, 16 * j),
        );
        const corrected = f32x4.sub(product, f32x4.mul(offset, v128.load(p.corrections, 16 * j)));
        f.emit(v128.store(p.c, f32x4.add(corrected, v128.load(p.bias, 16 * j)), 16 * j));
      }
      if (i < rows - 1) f.set(p.c, i32.add(p.c, p.ldc));
    }
  });
}

/** Activation and residual of a tile just written, still in the first cache level. */
function epilogue({ module, features }: KernelContext, name: string, activation: Activation): number {
  return module.func(
    `${name}_epilogue`,
    { c: 'i32', ldc: 'i32', residual: 'i32', ldr: 'i32', rows: 'i32' },
    (f, p) => {
      f.while(
        () => p.rows,
        () => {
          for (let j = 0; j < features.panel / 4; j++) {
            const y = f.local('v128', activate(f, features, activation, v128.load(p.c, 16 * j)));
            f.if(p.residual, () => f.set(y, f32x4.add(y, v128.load(p.residual, 16 * j))));
            f.emit(v128.store(p.c, y, 16 * j));
          }
          f.set(p.c, i32.add(p.c, p.ldc));
          f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, p.ldr)));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

function copyColumns({ module }: KernelContext, name: string): number {
  return module.func(
    `${name}_columns`,
    { from: 'i32', step: 'i32', to: 'i32', ldc: 'i32', rows: 'i32', columns: 'i32' },
    (f, p) => {
      const i = f.local('i32');
      f.while(
        () => p.rows,
        () => {
          f.for(i, i32.const(0), times(p.columns, 4), 4, () =>
            f.emit(f32.store(i32.add(p.to, i), f32.load(i32.add(p.from, i)))),
          );
          f.set(p.from, i32.add(p.from, p.step));
          f.set(p.to, i32.add(p.to, p.ldc));
          f.increment(p.rows, -1);
        },
      );
    },
  );
}

/** The rows of one block against one panel: whole tiles, then one of what is left. */
function panelFunction(
  context: KernelContext,
  name: string,
  quantized: boolean,
  activation: Activation,
): number {
  const { module, features, tiles } = context;
  const most = quantized ? tiles.int8 : tiles.float32;
  const byRows = [0];
  for (let r = 1; r <= most; r++) byRows.push((quantized ? int8Tile : float32Tile)(context, name, r));
  const finish = epilogue(context, name, activation);
  const copy = copyColumns(context, name);
  const panelBytes = features.panel * 4;
  return module.func(
    `${name}_panel`,
    { ...TILE, residual: 'i32', rows: 'i32', columns: 'i32', scratch: 'i32' },
    (f, p) => {
      const target = f.local('i32');
      const step = f.local('i32');
      const ragged = f.local('i32', i32.lt_u(p.columns, i32.const(features.panel)));
      const [c, rows, residual] = [f.local('i32', p.c), f.local('i32', p.rows), f.local('i32', p.residual)];
      const finishing = f.local(
        'i32',
        activation === 'none' ? i32.ne(p.residual, i32.const(0)) : i32.const(1),
      );
      f.set(step, i32.select(i32.const(panelBytes), p.ldc, ragged));
      const tile = (count: number) => {
        f.set(target, i32.select(p.scratch, p.c, ragged));
        f.call(
          byRows[count],
          p.a,
          p.b,
          target,
          p.K,
          p.lda,
          step,
          p.bias,
          p.scales,
          p.corrections,
          p.rowScales,
        );
        // A ragged panel is finished and copied tile by tile; any other at the end, while it is still in cache.
        f.if(ragged, () => {
          f.if(finishing, () => f.call(finish, target, step, p.residual, p.ldc, i32.const(count)));
          f.call(copy, p.scratch, step, p.c, p.ldc, i32.const(count), p.columns);
        });
      };
      f.while(
        () => i32.ge_s(p.rows, i32.const(most)),
        () => {
          tile(most);
          f.set(p.a, i32.add(p.a, i32.mul(p.lda, i32.const(most))));
          f.set(p.c, i32.add(p.c, i32.mul(p.ldc, i32.const(most))));
          f.if(p.residual, () => f.set(p.residual, i32.add(p.residual, i32.mul(p.ldc, i32.const(most)))));
          f.increment(p.rowScales, 8 * most);
          f.increment(p.rows, -most);
        },
      );
      for (let r = most - 1; r >= 1; r--) f.if(i32.eq(p.rows, i32.const(r)), () => tile(r));
      f.if(i32.and(finishing, i32.eqz(ragged)), () => f.call(finish, c, p.ldc, residual, p.ldc, rows));
    },
  );
}

export function gemmKernel(quantized: boolean, activation: Activation) {
  const name = `gemm_${quantized ? 'int8' : 'float32'}_${activation}`;
  return kernel({
    name,
    fields: FIELDS,
    build(context, f, at: At, begin, end) {
      const panel = panelFunction(context, name, quantized, activation);
      const columnBytes = context.features.panel * 4;
      const unit = f.local('i32');
      const p = f.local('i32');
      const last = f.local('i32');
      const m = f.local('i32');
      const rows = f.local('i32');
      const c = f.local('i32');
      const residual = f.local('i32', i32.const(0));
      const column = f.local('i32');
      f.for(unit, begin, end, 1, () => {
        f.set(m, i32.mul(i32.div_u(unit, at.unitsPerBlock), at.rowsPerBlock));
        f.set(rows, i32.min_s(at.rowsPerBlock, i32.sub(at.M, m)));
        f.set(p, i32.mul(i32.rem_u(unit, at.unitsPerBlock), at.panelsPerUnit));
        f.set(last, i32.min_s(i32.add(p, at.panelsPerUnit), at.panels));
        f.while(
          () => i32.lt_u(p, last),
          () => {
            f.set(column, i32.mul(p, i32.const(columnBytes)));
            const place = i32.add(
              i32.mul(i32.div_u(p, at.panelsPerHead), at.headBytes),
              i32.mul(i32.rem_u(p, at.panelsPerHead), i32.const(columnBytes)),
            );
            f.set(c, i32.add(i32.mul(m, at.ldc), place));
            f.if(at.residual, () => f.set(residual, i32.add(at.residual, c)));
            f.call(
              panel,
              i32.add(at.a, i32.mul(m, at.lda)),
              i32.add(at.w, i32.mul(p, at.panelBytes)),
              i32.add(at.c, c),
              at.K,
              at.lda,
              at.ldc,
              i32.add(at.bias, column),
              i32.add(at.scales, column),
              i32.add(at.corrections, column),
              i32.add(at.rowScales, times(m, 8)),
              residual,
              rows,
              i32.select(at.lastColumns, i32.const(context.features.panel), i32.eq(plus(p, 1), at.panels)),
              context.scratch(f),
            );
            f.increment(p, 1);
          },
        );
      });
    },
  });
}
