import { roundEven } from '../../tensor/half.ts';
import { expectFloat, type OpDefinition } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { rowQuantization } from './quantize-rows.ts';

export type FakeQuantizeRowsNode = Node<'fakeQuantizeRows', { readonly range: boolean }>;

/**
 * `scale · (code − zeroPoint)` for the codes that `quantizeRows` gives: what an integer product will see of x. Rows by
 * their own range, or all by one that is given, `[low, high]`.
 */
export function fakeQuantizeRows(t: Tracer, x: Value, range?: Parameter): Value {
  if (range) expectFloat('fakeQuantizeRows', range);
  return t.emit('fakeQuantizeRows', {
    inputs: [x],
    parameters: range ? [t.parameter(range.name, [2])] : [],
    outputs: [['y', 'float32', x.shape]],
    attributes: { range: !!range },
    rowWise: true,
  })[0];
}

export const fakeQuantizeRowsOp: OpDefinition<FakeQuantizeRowsNode> = {
  kind: 'fakeQuantizeRows',
  // Where x falls between two codes it may become either: a step of the row whose values reach furthest.
  budget: { absolute: 1e-30, relative: 2.01 / 127 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 3,
  reference(_node, { inputs: [x], parameters, levels }) {
    const K = x.shape.at(-1)!;
    const y = new Float64Array(x.data.length);
    for (let from = 0; from < y.length; from += K) {
      const row = x.data.subarray(from, from + K);
      const { scale, inverse, zeroPoint } = rowQuantization(parameters[0]?.data ?? row, levels);
      for (let k = 0; k < K; k++) {
        const code = roundEven(Math.fround(row[k] * inverse) + zeroPoint);
        y[from + k] = scale * (Math.max(0, Math.min(levels - 1, code)) - zeroPoint);
      }
    }
    return [y];
  },
};
