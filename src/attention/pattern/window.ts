import {
  and,
  constant,
  ge,
  key,
  le,
  type MaskExpression,
  query,
  sub,
} from '../../program/mask/expression.ts';

/** Keys from `left` before a query to `right` after it. Longformer, Beltagy et al. 2020, section 3.1. */
export function local(left: number, right: number): MaskExpression {
  const distance = sub(key, query);
  return and(ge(distance, constant(-left)), le(distance, constant(right)));
}
