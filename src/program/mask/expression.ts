import { AttenuateError } from '../../tensor/error.ts';

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

/** Whether the mask may differ from head to head. */
export const usesHead = (e: MaskExpression | IntegerExpression): boolean => mentions(e, ['head']);

/** Whether the mask depends on the query and the key through their difference alone, as a local window does. */
export function isRelative(e: MaskExpression | IntegerExpression): boolean {
  if (e.op === 'query' || e.op === 'key') return false;
  if (e.op === 'sub') {
    const difference = `${e.a.op} - ${e.b.op}`;
    if (difference === 'key - query' || difference === 'query - key') return true;
  }
  return operands(e).every(isRelative);
}

const operands = (e: MaskExpression | IntegerExpression): (MaskExpression | IntegerExpression)[] =>
  'b' in e ? [e.a, e.b] : 'a' in e ? [e.a] : [];

const mentions = (e: MaskExpression | IntegerExpression, ops: readonly string[]): boolean =>
  ops.includes(e.op) || operands(e).some((x) => mentions(x, ops));

/** Bounds on an expression that comes from a file. */
export const MAX_MASK_DEPTH = 64;
export const MAX_MASK_NODES = 1000;

const LEAVES = ['query', 'key', 'head'];
const ARITHMETIC = ['add', 'sub', 'mul', 'mod', 'div'];
const COMPARISONS = ['le', 'ge', 'eq'];
const CONNECTIVES = ['and', 'or'];

/**
 * Checks an expression read from a file and rebuilds it from its known fields alone.
 * @throws `MASK_INVALID` for an unknown operation, a constant that is not a safe integer, more than 64 levels or
 * more than 1000 nodes
 */
export function validateMask(json: unknown): MaskExpression {
  let nodes = 0;
  const invalid = (what: string, expected: string, got: unknown) =>
    new AttenuateError(
      'MASK_INVALID',
      `[mask] ${what}: expected ${expected}, got ${String(got)}. Repair the mask expression.`,
      { expected, got },
    );
  const visit = (
    value: unknown,
    depth: number,
    wants: 'mask' | 'integer',
  ): MaskExpression | IntegerExpression => {
    if (depth > MAX_MASK_DEPTH)
      throw invalid('expression nested too deeply', `at most ${MAX_MASK_DEPTH} levels`, depth);
    if (++nodes > MAX_MASK_NODES)
      throw invalid('expression too large', `at most ${MAX_MASK_NODES} nodes`, `at least ${nodes}`);
    if (typeof value !== 'object' || value === null)
      throw invalid('node of another type', 'an object', value === null ? 'null' : typeof value);
    const node = value as { op?: unknown; a?: unknown; b?: unknown; value?: unknown };
    const op = String(node.op);
    if (wants === 'integer') {
      if (LEAVES.includes(op)) return { op } as IntegerExpression;
      if (op === 'constant') {
        if (!Number.isSafeInteger(node.value))
          throw invalid('constant that is not a whole number', 'a safe integer', node.value);
        return { op, value: node.value as number };
      }
      if (!ARITHMETIC.includes(op))
        throw invalid('unknown operation on integers', [...LEAVES, 'constant', ...ARITHMETIC].join(', '), op);
    } else if (op === 'not') return { op, a: visit(node.a, depth + 1, 'mask') as MaskExpression };
    else if (!COMPARISONS.includes(op) && !CONNECTIVES.includes(op))
      throw invalid('unknown operation on masks', [...COMPARISONS, ...CONNECTIVES, 'not'].join(', '), op);
    const inner = CONNECTIVES.includes(op) ? 'mask' : 'integer';
    const [a, b] = [visit(node.a, depth + 1, inner), visit(node.b, depth + 1, inner)];
    return { op, a, b } as MaskExpression | IntegerExpression;
  };
  return visit(json, 1, 'mask') as MaskExpression;
}
