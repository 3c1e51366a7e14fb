import type { OpDefinition } from '../op.ts';
import { type Activation, type ActivationNode, erfc } from '../ops/activation.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export type ActivationGradientNode = Node<'activationGradient', { readonly activation: Activation }>;

/** `dy · f′(x)`, elementwise. */
export function activationGradient(t: Tracer, x: Value, dy: Value, activation: Activation): Value {
  return t.emit('activationGradient', {
    inputs: [x, dy],
    parameters: [],
    outputs: [['dx', 'float32', x.shape]],
    attributes: { activation },
    rowWise: true,
  })[0];
}

/** The derivative of an activation; that of ReLU at 0 is 0. */
export function slope(kind: Activation, x: number): number {
  if (kind === 'relu') return x > 0 ? 1 : 0;
  if (kind === 'tanh') return 1 - Math.tanh(x) ** 2;
  if (kind === 'gelu') {
    // Φ(x) + x·φ(x)
    return 0.5 * erfc(-x / Math.SQRT2) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
  }
  if (kind === 'geluTanh') {
    const c = Math.sqrt(2 / Math.PI);
    const h = Math.tanh(c * (x + 0.044715 * x ** 3));
    return 0.5 * (1 + h) + 0.5 * x * (1 - h * h) * c * (1 + 3 * 0.044715 * x * x);
  }
  return 1;
}

export const activationGradientOp: OpDefinition<ActivationGradientNode> = {
  kind: 'activationGradient',
  budget: { absolute: 1e-6, relative: 2e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 12,
  reference: ({ attributes }, { inputs: [x, dy] }) => [
    x.data.map((v, i) => dy.data[i] * slope(attributes.activation, v)),
  ],
};

export const activationRule = plainRule<ActivationNode>(
  'activation',
  (t, { attributes }, { inputs: [x], gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, activationGradient(t, x, dy, attributes.activation));
  },
);
