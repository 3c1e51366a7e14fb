import { formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type IntPooling = 'mean' | 'first' | 'max';
export interface IntPoolAttributes {
  readonly pooling: IntPooling;
  readonly zeroPoint: number;
}
export type IntPoolNode = Node<'intPool', IntPoolAttributes>;

/** Bits behind the point of a pooled code. */
export const POOL_FRACTION = 8;

/**
 * int8 codes `[B, N, C]` over their first `lengths[b]` rows → int32 `[B, C]`, the pooled codes less their zero point
 * times 2^8; no rows at all give zeros. A mean is rounded to the nearest, halves away from 0. Sums of 4096 rows and
 * less stay below 2^28.
 */
export function intPool(t: Tracer, x: Value, lengths: Value, attributes: IntPoolAttributes): Value {
  if (x.shape.length !== 3 || x.dtype !== 'int8')
    throw shapeError(
      'intPool',
      'input of another form',
      'int8 codes [B, N, C]',
      `${x.dtype} ${formatShape(x.shape)}`,
    );
  return t.emit('intPool', {
    inputs: [x, lengths],
    parameters: [],
    outputs: [['y', 'int32', [x.shape[0], x.shape[2]]]],
    attributes,
    rowWise: false,
  })[0];
}

export const intPoolOp: OpDefinition<IntPoolNode> = {
  kind: 'intPool',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { inputs }) => inputs[0].reduce((a, b) => a * b, 1),
  reference({ attributes: { pooling, zeroPoint } }, { inputs }) {
    const [B, N, C] = inputs[0].shape;
    const out = new Float64Array(B * C);
    for (let b = 0; b < B; b++) {
      const rows = Math.max(0, Math.min(inputs[1].data[b], pooling === 'first' ? 1 : N));
      if (rows === 0) continue;
      for (let c = 0; c < C; c++) {
        const column = Array.from(
          { length: rows },
          (_, n) => inputs[0].data[(b * N + n) * C + c] - zeroPoint,
        );
        const pooled = pooling === 'max' ? Math.max(...column) : column.reduce((a, x) => a + x, 0);
        const whole = Math.abs(pooled) * 2 ** POOL_FRACTION;
        const divisor = pooling === 'mean' ? rows : 1;
        out[b * C + c] = Math.sign(pooled) * Math.floor((whole + (divisor >> 1)) / divisor);
      }
    }
    return [out];
  },
};
