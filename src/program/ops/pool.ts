import { formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type Pooling = 'mean' | 'first' | 'max' | 'sqrtMean';
export type PoolNode = Node<'pool', { readonly pooling: Pooling }>;

/** x `[B, N, C]` over its first `lengths[b]` rows → `[B, C]`; no rows at all give zeros. `sqrtMean` divides the sum by √length. */
export function pool(t: Tracer, x: Value, lengths: Value, pooling: Pooling): Value {
  if (x.shape.length !== 3)
    throw shapeError('pool', 'input of another rank', '[B, N, C]', formatShape(x.shape));
  return t.emit('pool', {
    inputs: [x, lengths],
    parameters: [],
    outputs: [['y', 'float32', [x.shape[0], x.shape[2]]]],
    attributes: { pooling },
    rowWise: false,
  })[0];
}

export const poolOp: OpDefinition<PoolNode> = {
  kind: 'pool',
  budget: { absolute: 1e-7, relative: 2e-6 },
  multiplyAdds: (_node, { inputs }) => inputs[0].reduce((a, b) => a * b, 1),
  reference({ attributes: { pooling } }, { inputs }) {
    const [B, N, C] = inputs[0].shape;
    const out = new Float64Array(B * C);
    for (let b = 0; b < B; b++) {
      const rows = Math.max(0, Math.min(inputs[1].data[b], pooling === 'first' ? 1 : N));
      if (rows === 0) continue;
      const divisor = pooling === 'sqrtMean' ? Math.sqrt(rows) : rows;
      for (let c = 0; c < C; c++) {
        let sum = 0;
        let largest = -Infinity;
        for (let n = 0; n < rows; n++) {
          const x = inputs[0].data[(b * N + n) * C + c];
          sum += x;
          largest = Math.max(largest, x);
        }
        out[b * C + c] = pooling === 'max' ? largest : sum / divisor;
      }
    }
    return [out];
  },
};
