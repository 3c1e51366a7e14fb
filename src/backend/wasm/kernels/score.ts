import { mentions, operands, type ScoreExpression } from '../../../program/score/expression.ts';
import type { FunctionBuilder, Variable } from '../assembler.ts';
import { f32, f32x4, type I32, i32, type V128, v128 } from '../instructions.ts';
import type { ScoreHook } from './attention.ts';
import { type Blocks, scoreRow } from './attention-tiles.ts';
import { type Features, type KernelContext, multiplyAdd, plus, splat, times } from './kernel.ts';

/** tanh(x)/x in x² on [0, 81] to 2e-8 relative: minimax by Lawson's iteration. */
const TANH_NUMERATOR = [
  1, 0.13381008803844452, 0.00349556771107018, 0.00002060874794551637, 1.3354209293936492e-8,
];
const TANH_DENOMINATOR = [
  1, 0.4671432375907898, 0.025876903906464577, 0.0003285601269453764, 7.776370694045909e-7,
];
/** Beyond it tanh is ±1 in float32. */
const TANH_END = 9;

const constantsIn = (e: ScoreExpression): number[] =>
  e.op === 'constant' ? [e.value] : operands(e).flatMap(constantsIn);

/** Floats that the generated code reads from memory: the module's own table of constants is small. */
export const scoreConstants = (e: ScoreExpression): readonly number[] => [
  ...new Set([
    ...constantsIn(e),
    ...(mentions(e, 'tanh') ? [...TANH_NUMERATOR, ...TANH_DENOMINATOR, TANH_END, -TANH_END] : []),
  ]),
];

/**
 * The largest parts that depend on the distance but not on the score. A block of scores has few distances (one for each
 * diagonal), so each part is computed once a diagonal, not once a pair.
 */
function diagonalParts(e: ScoreExpression): ScoreExpression[] {
  if (!mentions(e, 'distance', 'table')) return [];
  if (!mentions(e, 'score')) return e.op === 'table' ? [] : [e];
  return operands(e).flatMap(diagonalParts);
}

const unique = (parts: readonly ScoreExpression[]): readonly string[] => [
  ...new Set(parts.map((part) => JSON.stringify(part))),
];

interface Leaves {
  readonly features: Features;
  constant(x: number): V128;
  /** A part that is known already, or null: its own code is then generated. */
  known(e: ScoreExpression): V128 | null;
}

/** The code of an expression over four pairs that are neighbours in a row. */
function compile(f: FunctionBuilder, e: ScoreExpression, leaves: Leaves): V128 {
  const known = leaves.known(e);
  if (known) return known;
  const of = (x: ScoreExpression) => compile(f, x, leaves);
  const { constant } = leaves;
  switch (e.op) {
    case 'constant':
      return constant(e.value);
    case 'abs':
      return f32x4.abs(of(e.a));
    case 'neg':
      return f32x4.sub(v128.zero, of(e.a));
    case 'tanh': {
      const x = f.local('v128', f32x4.pmin(f32x4.pmax(of(e.a), constant(-TANH_END)), constant(TANH_END)));
      const square = f.local('v128', f32x4.mul(x, x));
      const polynomial = (coefficients: readonly number[]): V128 =>
        coefficients
          .slice(0, -1)
          .reduceRight<V128>(
            (sum, c) => multiplyAdd(leaves.features)(sum, square, constant(c)),
            constant(coefficients.at(-1)!),
          );
      return f32x4.div(f32x4.mul(x, polynomial(TANH_NUMERATOR)), polynomial(TANH_DENOMINATOR));
    }
    case 'add':
      return f32x4.add(of(e.a), of(e.b));
    case 'sub':
      return f32x4.sub(of(e.a), of(e.b));
    case 'mul':
      return f32x4.mul(of(e.a), of(e.b));
    case 'min':
      return f32x4.pmin(of(e.a), of(e.b));
    case 'max':
      return f32x4.pmax(of(e.a), of(e.b));
  }
  throw new Error(`[score] leaf without a value: ${e.op}`);
}

/** Compiles an expression into the kernel of attention: it meets each block of scores before mask and softmax. */
export function scoreHook(score: ScoreExpression, blocks: Blocks): ScoreHook {
  const parts = unique(diagonalParts(score));
  const hasTable = mentions(score, 'table');
  /** One float for each diagonal of a block. */
  const diagonalBytes = (blocks.query + blocks.key) * 4;
  return {
    fields: {
      scoreScale: 'f32',
      scoreConstants: 'i32',
      slopes: 'i32',
      /** Address of the first head's row, and R. */
      table: 'i32',
      reach: 'i32',
    },
    scratchBytes: diagonalBytes * (parts.length + (hasTable ? 1 : 0)),
    build(context) {
      const diagonals = prepareBlock(context, score, parts, diagonalBytes);
      const modify = modifyRows(context, score, parts, blocks, diagonalBytes);
      type Named = Record<string, Variable<'i32'>> & { scoreScale: Variable<'f32'> };
      const slope = ({ slopes }: Named, head: I32) => i32.add(slopes, times(head, 4));
      return {
        block(f, at, { head, row, rows, first, keys, scratch }) {
          const field = at as Named;
          // [H, 2R + 1]
          const table = i32.add(field.table, times(i32.mul(head, plus(times(field.reach, 2), 1)), 4));
          const start = i32.sub(first, row);
          if (diagonals !== null)
            f.call(
              diagonals,
              ...[scratch, rows, keys, start, field.scoreConstants, slope(field, head), table, field.reach],
            );
        },
        rows(f, at, { head, rows, keys, scratch, scores, from, count }) {
          const field = at as Named;
          // A row further down begins one diagonal earlier.
          const own = i32.add(scratch, times(i32.sub(rows, from), 4));
          f.call(
            modify,
            ...[scores, own, i32.const(count), keys, field.scoreScale, field.scoreConstants],
            slope(field, head),
          );
        },
      };
    },
  };
}

/** Keys go by sixteens: what stands behind the last one is scratch too, and nobody reads it. */
const sixteens = (keys: I32): I32 => times(i32.and(plus(keys, 15), i32.const(-16)), 4);

const constantLocals = (f: FunctionBuilder, score: ScoreExpression, at: I32): ((x: number) => V128) => {
  const locals = scoreConstants(score).map((x, i) => ({
    x,
    local: f.local('v128', v128.load32_splat(at, 4 * i)),
  }));
  return (x) => locals.find((c) => c.x === x)!.local;
};

/** What depends on the distance alone, one float for each diagonal of a block; null where nothing does. */
function prepareBlock(
  { module, features }: KernelContext,
  score: ScoreExpression,
  parts: readonly string[],
  diagonalBytes: number,
): number | null {
  if (parts.length === 0 && !mentions(score, 'table')) return null;
  return module.func(
    'attention_diagonals',
    {
      diagonals: 'i32',
      rows: 'i32',
      keys: 'i32',
      /** Distance of the block's first pair. */
      start: 'i32',
      constants: 'i32',
      slope: 'i32',
      table: 'i32',
      reach: 'i32',
    },
    (f, p) => {
      const constant = constantLocals(f, score, p.constants);
      const slope = f.local('v128', v128.load32_splat(p.slope));
      const [i, t, end, cursor] = f.localArray('i32', 4);
      // The first diagonal is that of the last row and the first key.
      f.set(p.start, plus(i32.sub(p.start, p.rows), 1));
      f.set(end, i32.add(times(p.rows, 4), sixteens(p.keys)));
      const tableAt = parts.length * diagonalBytes;
      if (mentions(score, 'table'))
        f.for(t, i32.const(0), end, 4, () => {
          f.set(i, i32.add(p.start, i32.shr_u(t, i32.const(2))));
          f.set(i, i32.max_s(i32.min_s(i, p.reach), i32.sub(i32.const(0), p.reach)));
          f.emit(
            f32.store(
              i32.add(p.diagonals, t),
              f32.load(i32.add(p.table, times(i32.add(i, p.reach), 4))),
              tableAt,
            ),
          );
        });
      if (parts.length === 0) return;
      const lanes = f.local('v128');
      f.set(
        lanes,
        f32x4.add(splat(f32.convert_i32_s(p.start)), f32x4.convert_i32x4_s(v128.i32x4(0, 1, 2, 3))),
      );
      f.for(t, i32.const(0), end, 16, () => {
        f.set(cursor, i32.add(p.diagonals, t));
        parts.forEach((part, slot) => {
          const known = (e: ScoreExpression): V128 | null => {
            if (e.op === 'distance') return lanes;
            if (e.op === 'table') return v128.load(cursor, tableAt);
            return e.op === 'slope' ? slope : null;
          };
          const value = compile(f, JSON.parse(part), { features, constant, known });
          f.emit(v128.store(cursor, value, slot * diagonalBytes));
        });
        f.set(lanes, f32x4.add(lanes, v128.f32x4(4)));
      });
    },
  );
}

/** Rows of scores through the expression, in place. */
function modifyRows(
  { module, features }: KernelContext,
  score: ScoreExpression,
  parts: readonly string[],
  blocks: Blocks,
  diagonalBytes: number,
): number {
  return module.func(
    'attention_score',
    {
      s: 'i32',
      /** Behind the first diagonal of the first row. */
      diagonal: 'i32',
      rows: 'i32',
      keys: 'i32',
      scale: 'f32',
      constants: 'i32',
      slope: 'i32',
    },
    (f, p) => {
      const constant = constantLocals(f, score, p.constants);
      const slope = f.local('v128', v128.load32_splat(p.slope));
      const scale = f.local('v128', splat(p.scale));
      const [i, t, count, cursor, end] = f.localArray('i32', 5);
      const tableAt = parts.length * diagonalBytes;
      f.set(count, sixteens(p.keys));
      f.set(end, i32.add(p.s, i32.mul(p.rows, i32.const(scoreRow(blocks)))));
      f.for(p.s, p.s, end, scoreRow(blocks), () => {
        f.increment(p.diagonal, -4);
        f.for(i, i32.const(0), count, 64, () => {
          f.set(cursor, i32.add(p.s, i));
          f.set(t, i32.add(p.diagonal, i));
          for (let vector = 0; vector < 4; vector++) {
            const x = f.local('v128', f32x4.mul(v128.load(cursor, 16 * vector), scale));
            const known = (e: ScoreExpression): V128 | null => {
              if (e.op === 'score') return x;
              if (e.op === 'table') return v128.load(t, tableAt + 16 * vector);
              if (e.op === 'slope') return slope;
              const slot = parts.indexOf(JSON.stringify(e));
              return slot >= 0 ? v128.load(t, slot * diagonalBytes + 16 * vector) : null;
            };
            f.emit(v128.store(cursor, compile(f, score, { features, constant, known }), 16 * vector));
          }
        });
      });
    },
  );
}
