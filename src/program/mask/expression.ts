/**
 * A `maskMod(b, h, q, k) → boolean` as a traced expression (FlexAttention's mask_mod): plain JSON, so that it is
 * stored in a recipe, bounded over whole blocks by interval arithmetic, and evaluated without `eval`.
 */
export type IntegerExpression =
  | { readonly op: 'query' | 'key' | 'head' }
  | { readonly op: 'constant'; readonly value: number }
  | {
      readonly op: 'add' | 'sub' | 'mul' | 'mod' | 'div';
      readonly a: IntegerExpression;
      readonly b: IntegerExpression;
    };

export type MaskExpression =
  | { readonly op: 'le' | 'ge' | 'eq'; readonly a: IntegerExpression; readonly b: IntegerExpression }
  | { readonly op: 'and' | 'or'; readonly a: MaskExpression; readonly b: MaskExpression }
  | { readonly op: 'not'; readonly a: MaskExpression };

export interface Pair {
  readonly h: number;
  readonly q: number;
  readonly k: number;
}

export const query: IntegerExpression = { op: 'query' };
export const key: IntegerExpression = { op: 'key' };
export const head: IntegerExpression = { op: 'head' };
export const constant = (value: number): IntegerExpression => ({ op: 'constant', value });
const binary =
  (op: 'add' | 'sub' | 'mul' | 'mod' | 'div') =>
  (a: IntegerExpression, b: IntegerExpression): IntegerExpression => ({ op, a, b });
export const [add, sub, mul, mod, div] = (['add', 'sub', 'mul', 'mod', 'div'] as const).map(binary);
const compare =
  (op: 'le' | 'ge' | 'eq') =>
  (a: IntegerExpression, b: IntegerExpression): MaskExpression => ({ op, a, b });
export const [le, ge, eq] = (['le', 'ge', 'eq'] as const).map(compare);
export const and = (a: MaskExpression, b: MaskExpression): MaskExpression => ({ op: 'and', a, b });
export const or = (a: MaskExpression, b: MaskExpression): MaskExpression => ({ op: 'or', a, b });
export const not = (a: MaskExpression): MaskExpression => ({ op: 'not', a });

/** `mod` is Euclidean (never negative) and `div` rounds down; a divisor of 0 gives 0. */
export function evaluateInteger(e: IntegerExpression, at: Pair): number {
  switch (e.op) {
    case 'query':
      return at.q;
    case 'key':
      return at.k;
    case 'head':
      return at.h;
    case 'constant':
      return e.value;
  }
  const a = evaluateInteger(e.a, at);
  const b = evaluateInteger(e.b, at);
  if (e.op === 'add') return a + b;
  if (e.op === 'sub') return a - b;
  if (e.op === 'mul') return a * b;
  if (b === 0) return 0;
  return e.op === 'div' ? Math.floor(a / b) : a - Math.abs(b) * Math.floor(a / Math.abs(b));
}

export function evaluateMask(e: MaskExpression, at: Pair): boolean {
  if (e.op === 'and') return evaluateMask(e.a, at) && evaluateMask(e.b, at);
  if (e.op === 'or') return evaluateMask(e.a, at) || evaluateMask(e.b, at);
  if (e.op === 'not') return !evaluateMask(e.a, at);
  const comparison = e as MaskExpression & {
    op: 'le' | 'ge' | 'eq';
    a: IntegerExpression;
    b: IntegerExpression;
  };
  const a = evaluateInteger(comparison.a, at);
  const b = evaluateInteger(comparison.b, at);
  return e.op === 'le' ? a <= b : e.op === 'ge' ? a >= b : a === b;
}
