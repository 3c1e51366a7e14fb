import { add, constant, mentions, mul, neg, type ScoreExpression, sub } from './expression.ts';

/**
 * The derivative of a score expression by one of its leaves, as an expression of the same leaves; null where the leaf
 * passes through an absolute value, a minimum or a maximum, whose derivative is no such expression.
 */
export function derivative(e: ScoreExpression, by: 'score' | 'table'): ScoreExpression | null {
  if (e.op === by) return constant(1);
  if (!mentions(e, by)) return constant(0);
  switch (e.op) {
    case 'neg': {
      const d = derivative(e.a, by);
      return d && simplified(neg(d));
    }
    case 'tanh': {
      const d = derivative(e.a, by);
      return d && simplified(mul(sub(constant(1), mul(e, e)), d));
    }
    case 'add':
    case 'sub': {
      const [a, b] = [derivative(e.a, by), derivative(e.b, by)];
      return a && b && simplified(e.op === 'add' ? add(a, b) : sub(a, b));
    }
    case 'mul': {
      const [a, b] = [derivative(e.a, by), derivative(e.b, by)];
      return a && b && simplified(add(simplified(mul(a, e.b)), simplified(mul(e.a, b))));
    }
    default:
      return null;
  }
}

/** Without what is multiplied by 0 or 1, or added to 0. */
function simplified(e: ScoreExpression): ScoreExpression {
  const is = (x: ScoreExpression, value: number) => x.op === 'constant' && x.value === value;
  if (e.op === 'neg' && e.a.op === 'constant') return constant(-e.a.value);
  if (e.op === 'mul') {
    if (is(e.a, 0) || is(e.b, 0)) return constant(0);
    if (is(e.a, 1)) return e.b;
    if (is(e.b, 1)) return e.a;
    if (e.a.op === 'constant' && e.b.op === 'constant') return constant(e.a.value * e.b.value);
  }
  if (e.op === 'add') {
    if (is(e.a, 0)) return e.b;
    if (is(e.b, 0)) return e.a;
  }
  if (e.op === 'sub' && is(e.b, 0)) return e.a;
  return e;
}
