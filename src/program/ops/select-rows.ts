import { formatShape } from '../../tensor/dim.ts';
import { checkIndex, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type SelectRowsNode = Node<'selectRows', Record<string, never>>;

/** x `[B, N, C]`, rows `[B, P]` (int32, in 0…N−1) → `[B, P, C]`. */
export function selectRows(t: Tracer, x: Value, rows: Value): Value {
  if (x.shape.length !== 3 || rows.shape.length !== 2)
    throw shapeError(
      'selectRows',
      'inputs of another rank',
      '[B, N, C] and [B, P]',
      `${formatShape(x.shape)} and ${formatShape(rows.shape)}`,
    );
  return t.emit('selectRows', {
    inputs: [x, rows],
    parameters: [],
    outputs: [['y', 'float32', [...rows.shape, x.shape[2]]]],
    attributes: {},
    rowWise: false,
  })[0];
}

export const selectRowsOp: OpDefinition<SelectRowsNode> = {
  kind: 'selectRows',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference(_node, { inputs, outputShapes }) {
    const [B, P, C] = outputShapes[0];
    const N = inputs[0].shape[1];
    const out = new Float64Array(B * P * C);
    for (let i = 0; i < B * P; i++) {
      checkIndex('selectRows', 'row', inputs[1].data[i], N);
      const from = (Math.floor(i / P) * N + inputs[1].data[i]) * C;
      out.set(inputs[0].data.subarray(from, from + C), i * C);
    }
    return [out];
  },
};
