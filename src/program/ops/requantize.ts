import { clamp, multiplyShift } from '../integer/dyadic.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface RequantizeAttributes {
  readonly multiplier: number;
  readonly shift: number;
  readonly zeroPoint: number;
}
export type RequantizeNode = Node<'requantize', RequantizeAttributes>;

/** int32 → int8 codes at another scale: `clamp(⌊x · multiplier / 2^shift⌉ + zeroPoint)`. */
export function requantize(t: Tracer, x: Value, attributes: RequantizeAttributes): Value {
  if (x.dtype !== 'int32') throw shapeError('requantize', 'input of another type', 'int32', x.dtype);
  return t.emit('requantize', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'int8', x.shape]],
    attributes,
    rowWise: true,
  })[0];
}

export const requantizeOp: OpDefinition<RequantizeNode> = {
  kind: 'requantize',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference: ({ attributes: { multiplier, shift, zeroPoint } }, { inputs }) => [
    inputs[0].data.map((x) => clamp(multiplyShift(x, multiplier, shift) + zeroPoint, -128, 127)),
  ],
};
