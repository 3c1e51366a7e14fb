import { equalShapes, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type AddNode = Node<'add', Record<string, never>>;

/** `a + b`, of one shape. */
export function add(t: Tracer, a: Value, b: Value): Value {
  if (!equalShapes(a.shape, b.shape))
    throw shapeError('add', 'terms of different shapes', formatShape(a.shape), formatShape(b.shape));
  return t.emit('add', {
    inputs: [a, b],
    parameters: [],
    outputs: [['y', 'float32', a.shape]],
    attributes: {},
    rowWise: true,
  })[0];
}

export const addOp: OpDefinition<AddNode> = {
  kind: 'add',
  budget: { absolute: 0, relative: 1e-7 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1),
  reference: (_node, { inputs: [a, b] }) => [a.data.map((x, i) => x + b.data[i])],
};

export const addRule = plainRule<AddNode>('add', (_t, _node, { gradients: [dy], sink }) => {
  if (!dy) return;
  for (const i of [0, 1]) if (sink.wants(i)) sink.add(i, dy);
});
