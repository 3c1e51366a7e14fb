import { multiplyShift } from '../integer/dyadic.ts';
import { rowNormalizer, sumOfSquares } from '../integer/sqrt.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type IntL2NormalizeNode = Node<'intL2Normalize', Record<string, never>>;

/**
 * int32 rows brought to length 2^20, in int32: `rowNormalizer`, whose length is right to 1 part in 2^14 (2^10 where
 * the squares of a row sum up to less than 2^10). Squares must sum up to less than 2^62. A row of zeros stays so.
 */
export function intL2Normalize(t: Tracer, x: Value): Value {
  if (x.dtype !== 'int32') throw shapeError('intL2Normalize', 'input of another type', 'int32 rows', x.dtype);
  return t.emit('intL2Normalize', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'int32', x.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

export const intL2NormalizeOp: OpDefinition<IntL2NormalizeNode> = {
  kind: 'intL2Normalize',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 2,
  reference(_node, { inputs: [{ data, shape }] }) {
    const C = shape.at(-1)!;
    const out = new Float64Array(data.length);
    for (let at = 0; at < out.length; at += C) {
      const row = data.subarray(at, at + C);
      const { reciprocal, shift } = rowNormalizer(sumOfSquares(row));
      out.set(
        row.map((x) => multiplyShift(x, reciprocal, shift)),
        at,
      );
    }
    return [out];
  },
};
