import { AttenuateError } from '../../tensor/error.ts';

/**
 * A `maskMod(b, h, q, k) → boolean` as a traced expression (FlexAttention's mask_mod): plain JSON, so that it is
 * stored in a recipe, bounded over whole blocks by interval arithmetic, and evaluated without `eval`.
 */
export type IntegerExpression =
  /** `keys`: how many keys the sequence was planned for. */
  | { readonly op: 'query' | 'key' | 'head' | 'keys' }
  | { readonly op: 'constant'; readonly value: number }
  | {
      readonly op: 'add' | 'sub' | 'mul' | 'mod' | 'div' | 'hash';
      readonly a: IntegerExpression;
      readonly b: IntegerExpression;
    }
  /** `table[a]`; −1 outside. */
  | { readonly op: 'lookup'; readonly table: readonly number[]; readonly a: IntegerExpression };

export type MaskExpression =
  | { readonly op: 'le' | 'ge' | 'eq'; readonly a: IntegerExpression; readonly b: IntegerExpression }
  | { readonly op: 'and' | 'or'; readonly a: MaskExpression; readonly b: MaskExpression }
  | { readonly op: 'not'; readonly a: MaskExpression };

export interface Pair {
  readonly h: number;
  readonly q: number;
  readonly k: number;
  /** Planned keys; 0 where nothing is said. */
  readonly keys?: number;
}

export const query: IntegerExpression = { op: 'query' };
export const key: IntegerExpression = { op: 'key' };
export const head: IntegerExpression = { op: 'head' };
export const keys: IntegerExpression = { op: 'keys' };
export const constant = (value: number): IntegerExpression => ({ op: 'constant', value });
const binary =
  (op: 'add' | 'sub' | 'mul' | 'mod' | 'div' | 'hash') =>
  (a: IntegerExpression, b: IntegerExpression): IntegerExpression => ({ op, a, b });
export const [add, sub, mul, mod, div, hash] = (['add', 'sub', 'mul', 'mod', 'div', 'hash'] as const).map(
  binary,
);
export const lookup = (table: readonly number[], a: IntegerExpression): IntegerExpression => ({
  op: 'lookup',
  table,
  a,
});
const compare =
  (op: 'le' | 'ge' | 'eq') =>
  (a: IntegerExpression, b: IntegerExpression): MaskExpression => ({ op, a, b });
export const [le, ge, eq] = (['le', 'ge', 'eq'] as const).map(compare);
export const and = (a: MaskExpression, b: MaskExpression): MaskExpression => ({ op: 'and', a, b });
export const or = (a: MaskExpression, b: MaskExpression): MaskExpression => ({ op: 'or', a, b });
export const not = (a: MaskExpression): MaskExpression => ({ op: 'not', a });

/** Two whole numbers as one of 31 bits (finaliser of MurmurHash3, Appleby). */
export function hashPair(a: number, b: number): number {
  let x = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 1;
}

/** `mod` is Euclidean (never negative) and `div` rounds down; a divisor of 0 gives 0. */
export function evaluateInteger(e: IntegerExpression, at: Pair): number {
  switch (e.op) {
    case 'query':
      return at.q;
    case 'key':
      return at.k;
    case 'head':
      return at.h;
    case 'keys':
      return at.keys ?? 0;
    case 'constant':
      return e.value;
    case 'lookup':
      return e.table[evaluateInteger(e.a, at)] ?? -1;
  }
  const a = evaluateInteger(e.a, at);
  const b = evaluateInteger(e.b, at);
  if (e.op === 'add') return a + b;
  if (e.op === 'sub') return a - b;
  if (e.op === 'mul') return a * b;
  if (e.op === 'hash') return hashPair(a, b);
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

/** Whether an expression has one of these operations in it. */
export const mentions = (e: MaskExpression | IntegerExpression, ops: readonly string[]): boolean =>
  ops.includes(e.op) || operands(e).some((x) => mentions(x, ops));

/** Bounds on an expression that comes from a file. */
export const MAX_MASK_DEPTH = 64;
export const MAX_MASK_NODES = 1000;

export const MAX_MASK_TABLE = 65_536;

const LEAVES = ['query', 'key', 'head', 'keys'];
const ARITHMETIC = ['add', 'sub', 'mul', 'mod', 'div', 'hash'];
const COMPARISONS = ['le', 'ge', 'eq'];
const CONNECTIVES = ['and', 'or'];

/**
 * Checks an expression read from a file and rebuilds it from its known fields alone.
 * @throws `MASK_INVALID` for an unknown operation, a constant that is not a safe integer, more than 64 levels,
 * more than 1000 nodes or more than 65,536 entries of tables
 */
export function validateMask(json: unknown): MaskExpression {
  let nodes = 0;
  let entries = 0;
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
    const node = value as { op?: unknown; a?: unknown; b?: unknown; value?: unknown; table?: unknown };
    const op = String(node.op);
    if (wants === 'integer') {
      if (LEAVES.includes(op)) return { op } as IntegerExpression;
      if (op === 'constant') {
        if (!Number.isSafeInteger(node.value))
          throw invalid('constant that is not a whole number', 'a safe integer', node.value);
        return { op, value: node.value as number };
      }
      if (op === 'lookup') {
        const { table } = node;
        if (
          !Array.isArray(table) ||
          !table.every(Number.isSafeInteger) ||
          (entries += table.length) > MAX_MASK_TABLE
        )
          throw invalid('bad table', `at most ${MAX_MASK_TABLE} safe integers`, typeof table);
        return { op, table: [...table], a: visit(node.a, depth + 1, 'integer') as IntegerExpression };
      }
      if (!ARITHMETIC.includes(op))
        throw invalid(
          'unknown operation on integers',
          [...LEAVES, 'constant', 'lookup', ...ARITHMETIC].join(', '),
          op,
        );
    } else if (op === 'not') return { op, a: visit(node.a, depth + 1, 'mask') as MaskExpression };
    else if (!COMPARISONS.includes(op) && !CONNECTIVES.includes(op))
      throw invalid('unknown operation on masks', [...COMPARISONS, ...CONNECTIVES, 'not'].join(', '), op);
    const inner = CONNECTIVES.includes(op) ? 'mask' : 'integer';
    const [a, b] = [visit(node.a, depth + 1, inner), visit(node.b, depth + 1, inner)];
    return { op, a, b } as MaskExpression | IntegerExpression;
  };
  return visit(json, 1, 'mask') as MaskExpression;
}
