import {
  checkSpec,
  decode,
  type EncodeOptions,
  elements,
  encode,
  isPlain,
  specOf,
  type WeightSpec,
} from '../../tensor/codec.ts';
import { expectCodec, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter } from '../program.ts';
import type { Tracer } from '../trace.ts';

/** How a weight will be stored, and how a ternary one is chosen. */
export interface FakeQuantizeAttributes extends EncodeOptions {
  readonly spec: WeightSpec;
}
export type FakeQuantizeNode = Node<'fakeQuantize', FakeQuantizeAttributes>;

/** The name of a weight as it will be read once it is stored in fewer bits. */
export const storedName = (name: string): string => `${name}:stored`;

/**
 * Sets a parameter to what a float32 weight will be once it is stored as `spec`: `decode(encode(spec, w))`, number by
 * number the codec's own. Nodes that read it in the weight's place compute what the stored model will. Its gradient is
 * taken for the weight's (the straight-through estimator: Bengio, Léonard and Courville 2013, section 4; Courbariaux et
 * al. 2015, BinaryConnect, section 2.3). Scales follow the weights, so that nothing is beyond the ends.
 * @returns the parameter that is set
 * @throws `SHAPE_MISMATCH`, `CODEC_UNSUPPORTED`, `CODEC_SPEC`, `GROUP_SIZE`
 */
export function fakeQuantize(
  t: Tracer,
  weight: Parameter,
  spec: WeightSpec,
  options: EncodeOptions = {},
): Parameter {
  expectCodec('fakeQuantize', weight, 'float32');
  checkSpec(spec);
  if (
    isPlain(spec.codec) ||
    elements(spec.shape) !== elements(weight.shape) ||
    spec.shape.at(-1) !== weight.shape.at(-1)
  )
    throw shapeError(
      'fakeQuantize',
      `a specification that is not one of ${weight.name}`,
      `an integer codec [${weight.shape}]`,
      `${spec.codec} [${spec.shape}]`,
    );
  const stored: Parameter = { name: storedName(weight.name), codec: 'float32', shape: weight.shape };
  t.emit('fakeQuantize', {
    inputs: [],
    parameters: [weight],
    outputs: [],
    attributes: { spec: specOf(spec), ...options } satisfies FakeQuantizeAttributes,
    rowWise: false,
    sets: [stored],
  });
  return stored;
}

export const fakeQuantizeOp: OpDefinition<FakeQuantizeNode> = {
  kind: 'fakeQuantize',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: ({ parameters: [weight] }) => 2 * elements(weight.shape),
  reference: ({ attributes: { spec, ...options } }, { parameters: [weight] }) => [
    Float64Array.from(decode(encode(spec, Float32Array.from(weight.data), options))),
  ],
};
