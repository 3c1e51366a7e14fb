import { equalShapes, formatShape } from '../../tensor/dim.ts';
import { type OpDefinition, shapeError } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { plainRule } from './rule.ts';

export interface DropoutAttributes {
  readonly probability: number;
  /** Tells the dropouts of one Program apart. */
  readonly place: number;
  /** Whether a last input is added to what is left. */
  readonly residual: boolean;
}
export type DropoutNode = Node<'dropout', DropoutAttributes>;

/**
 * Elements of x dropped with a probability, the rest divided by 1 − probability (Srivastava et al. 2014), plus
 * `residual`. Whether element i is kept depends on the seed `[2]` (seed, step), the place and i alone.
 */
export function dropout(
  t: Tracer,
  x: Value,
  seed: Value,
  { probability, place }: Pick<DropoutAttributes, 'probability' | 'place'>,
  residual?: Value,
): Value {
  if (residual && !equalShapes(residual.shape, x.shape))
    throw shapeError(
      'dropout',
      'residual of another shape',
      formatShape(x.shape),
      formatShape(residual.shape),
    );
  return t.emit('dropout', {
    inputs: residual ? [x, seed, residual] : [x, seed],
    parameters: [],
    outputs: [['y', 'float32', x.shape]],
    attributes: { probability, place, residual: !!residual } satisfies DropoutAttributes,
    rowWise: false,
  })[0];
}

/** One key for a whole tensor, of the seed, the step and the place: rounds of the finaliser of MurmurHash3. */
export function dropoutKey(seed: number, step: number, place: number): number {
  return mix(mix(mix(seed) ^ step) ^ Math.imul(place + 1, 0x9e3779b9));
}

/** The finaliser of MurmurHash3 (Appleby 2011): every input bit changes every output bit half of the time. */
export function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) | 0;
}

/** Random bits of an element, signed. */
export const dropoutBits = (key: number, i: number): number => mix(key ^ Math.imul(i, 0x9e3779b9));

/** Elements whose bits are at least this are kept. */
export const dropoutThreshold = (probability: number): number =>
  Math.min(2 ** 31 - 1, Math.round(probability * 2 ** 32) - 2 ** 31) | 0;

export const dropoutOp: OpDefinition<DropoutNode> = {
  kind: 'dropout',
  budget: { absolute: 1e-7, relative: 1e-6 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 8,
  reference({ attributes: { probability, place, residual } }, { inputs: [x, seed, r] }) {
    const key = dropoutKey(seed.data[0], seed.data[1], place);
    const threshold = dropoutThreshold(probability);
    const factor = Math.fround(1 / (1 - probability));
    return [
      x.data.map((v, i) => (dropoutBits(key, i) >= threshold ? v * factor : 0) + (residual ? r.data[i] : 0)),
    ];
  },
};

export const dropoutRule = plainRule<DropoutNode>(
  'dropout',
  (t, { attributes }, { inputs: [, seed], gradients: [dy], sink }) => {
    if (!dy) return;
    if (attributes.residual && sink.wants(2)) sink.add(2, dy);
    if (sink.wants(0)) sink.add(0, dropout(t, dy, seed, attributes));
  },
);
