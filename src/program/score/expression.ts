import { AttenuateError } from '../../tensor/error.ts';

/**
 * A `scoreMod(score, q, k, h) → score` as a traced expression (FlexAttention's score_mod): plain JSON, so that it is
 * stored in a recipe, checked when it is read, and compiled into the attention kernel. `score` is scale · q·k in
 * natural units, and the result is what softmax sees; it has to stay between −1e30 and 1e30.
 */
export type ScoreExpression =
  /** `distance` is k − q; `slope` that of ALiBi for this head; `table` a weight by head and clipped distance. */
  | { readonly op: 'score' | 'distance' | 'slope' | 'table' }
  | { readonly op: 'constant'; readonly value: number }
  | {
      readonly op: 'add' | 'sub' | 'mul' | 'min' | 'max';
      readonly a: ScoreExpression;
      readonly b: ScoreExpression;
    }
  | { readonly op: 'abs' | 'neg' | 'tanh'; readonly a: ScoreExpression };

type BinaryOp = 'add' | 'sub' | 'mul' | 'min' | 'max';
type UnaryOp = 'abs' | 'neg' | 'tanh';

export const score: ScoreExpression = { op: 'score' };
export const distance: ScoreExpression = { op: 'distance' };
export const slope: ScoreExpression = { op: 'slope' };
export const table: ScoreExpression = { op: 'table' };
export const constant = (value: number): ScoreExpression => ({ op: 'constant', value });
const binary =
  (op: BinaryOp) =>
  (a: ScoreExpression, b: ScoreExpression): ScoreExpression => ({ op, a, b });
const unary =
  (op: UnaryOp) =>
  (a: ScoreExpression): ScoreExpression => ({ op, a });
export const [add, sub, mul, min, max] = (['add', 'sub', 'mul', 'min', 'max'] as const).map(binary);
export const [abs, neg, tanh] = (['abs', 'neg', 'tanh'] as const).map(unary);

/** cap · tanh(score / cap): scores near 0 stay, large ones end at ±cap. Gemma 2, Gemma Team 2024, section 2. */
export const softcap = (cap: number, of: ScoreExpression = score): ScoreExpression =>
  mul(constant(cap), tanh(mul(of, constant(1 / cap))));

/** −slope · |k − q|: the symmetric form of ALiBi (Press, Smith, Lewis 2022, section 3) that an encoder needs. */
export const alibi: ScoreExpression = neg(mul(slope, abs(distance)));

/**
 * ALiBi's slopes, 2^(−8(h+1)/H) for H a power of two. For another H: those of the power of two below it, then every
 * other one of twice that power (Press et al. 2022, their published code).
 */
export function alibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const of = (count: number) => Array.from({ length: count }, (_, h) => 2 ** ((-8 * (h + 1)) / count));
  return [...of(power), ...of(2 * power).filter((_, h) => h % 2 === 0)].slice(0, heads);
}

/** The leaves of one pair. */
export interface ScorePoint {
  readonly score: number;
  readonly distance: number;
  readonly slope: number;
  readonly table: number;
}

export function evaluateScore(e: ScoreExpression, at: ScorePoint): number {
  switch (e.op) {
    case 'score':
    case 'distance':
    case 'slope':
    case 'table':
      return at[e.op];
    case 'constant':
      return e.value;
    case 'abs':
      return Math.abs(evaluateScore(e.a, at));
    case 'neg':
      return -evaluateScore(e.a, at);
    case 'tanh':
      return Math.tanh(evaluateScore(e.a, at));
  }
  const [a, b] = [evaluateScore(e.a, at), evaluateScore(e.b, at)];
  if (e.op === 'add') return a + b;
  if (e.op === 'sub') return a - b;
  if (e.op === 'mul') return a * b;
  return e.op === 'min' ? Math.min(a, b) : Math.max(a, b);
}

export const operands = (e: ScoreExpression): readonly ScoreExpression[] =>
  'b' in e ? [e.a, e.b] : 'a' in e ? [e.a] : [];

/** Whether one of these leaves or operations stands anywhere in it. */
export const mentions = (e: ScoreExpression, ...ops: readonly ScoreExpression['op'][]): boolean =>
  ops.includes(e.op) || operands(e).some((x) => mentions(x, ...ops));

/** Bounds on an expression that comes from a file. */
export const MAX_SCORE_DEPTH = 32;
export const MAX_SCORE_NODES = 100;

const LEAVES: readonly string[] = ['score', 'distance', 'slope', 'table'];
const BINARY: readonly string[] = ['add', 'sub', 'mul', 'min', 'max'];
const UNARY: readonly string[] = ['abs', 'neg', 'tanh'];

/**
 * Checks an expression read from a file and rebuilds it from its known fields alone.
 * @throws `SCORE_INVALID` for an unknown operation, a constant that float32 does not hold, more than 32 levels or
 * more than 100 nodes
 */
export function validateScore(json: unknown): ScoreExpression {
  let nodes = 0;
  const invalid = (what: string, expected: string, got: unknown) =>
    new AttenuateError(
      'SCORE_INVALID',
      `[score] ${what}: expected ${expected}, got ${String(got).slice(0, 60)}. Repair the score expression.`,
      { expected },
    );
  const visit = (value: unknown, depth: number): ScoreExpression => {
    if (depth > MAX_SCORE_DEPTH)
      throw invalid('expression nested too deeply', `at most ${MAX_SCORE_DEPTH} levels`, depth);
    if (++nodes > MAX_SCORE_NODES)
      throw invalid('expression too large', `at most ${MAX_SCORE_NODES} nodes`, `at least ${nodes}`);
    if (typeof value !== 'object' || value === null)
      throw invalid('node of another type', 'an object', value === null ? 'null' : typeof value);
    const node = value as { op?: unknown; a?: unknown; b?: unknown; value?: unknown };
    const op = typeof node.op === 'string' ? node.op : typeof node.op;
    if (LEAVES.includes(op)) return { op } as ScoreExpression;
    if (op === 'constant') {
      if (typeof node.value !== 'number' || !Number.isFinite(Math.fround(node.value)))
        throw invalid('constant that is no float', 'a finite float32', node.value);
      return { op, value: node.value };
    }
    if (UNARY.includes(op)) return { op, a: visit(node.a, depth + 1) } as ScoreExpression;
    if (!BINARY.includes(op))
      throw invalid('unknown operation', [...LEAVES, 'constant', ...UNARY, ...BINARY].join(', '), op);
    return { op, a: visit(node.a, depth + 1), b: visit(node.b, depth + 1) } as ScoreExpression;
  };
  return visit(json, 1);
}
