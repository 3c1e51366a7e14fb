import { expectFloat, type OpDefinition } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type FakeBinarizeNode = Node<'fakeBinarize', Record<string, never>>;

/** `α · sign(x − β)`, sign(0) = 1: what a product of bits will see of x (`quantizeBinary`). @param range `[α, β]` */
export function fakeBinarize(t: Tracer, x: Value, range: Parameter): Value {
  expectFloat('fakeBinarize', range);
  return t.emit('fakeBinarize', {
    inputs: [x],
    parameters: [t.parameter(range.name, [2])],
    outputs: [['y', 'float32', x.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

export const fakeBinarizeOp: OpDefinition<FakeBinarizeNode> = {
  kind: 'fakeBinarize',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference: (_node, { inputs: [x], parameters: [{ data: range }] }) => [
    x.data.map((v) => (v >= range[1] ? range[0] : -range[0])),
  ],
};
