import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type DequantizeNode = Node<'dequantize', { readonly scale: number }>;

/** int32 → float32: `x · scale`. Where integers end. */
export function dequantize(t: Tracer, x: Value, scale: number): Value {
  if (x.dtype !== 'int32') throw shapeError('dequantize', 'input of another type', 'int32', x.dtype);
  return t.emit('dequantize', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', x.shape]],
    attributes: { scale },
    rowWise: true,
  })[0];
}

export const dequantizeOp: OpDefinition<DequantizeNode> = {
  kind: 'dequantize',
  // x is rounded to float32 before it is multiplied, unless it has at most 24 bits.
  budget: { absolute: 0, relative: 2 ** -22 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference: ({ attributes: { scale } }, { inputs }) => [inputs[0].data.map((x) => x * scale)],
};
