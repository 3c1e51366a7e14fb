import type { OpDefinition } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type Activation = 'none' | 'gelu' | 'geluTanh' | 'relu' | 'tanh';
export type ActivationNode = Node<'activation', { readonly activation: Activation }>;

/** Elementwise non-linearity of a float32 tensor, as an op of its own. */
export function activation(t: Tracer, x: Value, kind: Activation): Value {
  return t.emit('activation', {
    inputs: [x],
    parameters: [],
    outputs: [['y', 'float32', x.shape]],
    attributes: { activation: kind },
    rowWise: true,
  })[0];
}

export const activationOp: OpDefinition<ActivationNode> = {
  kind: 'activation',
  budget: { absolute: 1e-6, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 8,
  reference: (node, { inputs }) => [inputs[0].data.map((x) => activate(node.attributes.activation, x))],
};

/** `gelu` is x·Φ(x) (Hendrycks and Gimpel 2016), `geluTanh` its tanh approximation. */
export function activate(kind: Activation, x: number): number {
  if (kind === 'relu') return x > 0 || Number.isNaN(x) ? x : 0;
  if (kind === 'tanh') return Math.tanh(x);
  if (kind === 'gelu') return x < -30 ? -0 : 0.5 * x * erfc(-x / Math.SQRT2);
  if (kind === 'geluTanh')
    return x < -30 ? -0 : 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  return x;
}

/** Complementary error function: Maclaurin series below 2.5, Laplace's continued fraction above. */
export function erfc(x: number): number {
  if (Number.isNaN(x)) return NaN;
  const z = Math.abs(x);
  let tail: number;
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
      if (n > 200) break;
    }
    tail = 1 - (2 / Math.sqrt(Math.PI)) * sum;
  } else if (z > 27) tail = 0;
  else {
    let fraction = 0;
    for (let n = 80; n >= 1; n--) fraction = n / 2 / (z + fraction);
    tail = Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction);
  }
  return x >= 0 ? tail : 2 - tail;
}
