import type { AttentionGradientNode } from '../../../../program/gradient/attention.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import type { Lowering, OpLowering, Step } from '../../lowering.ts';
import { attentionFields, keysOf, variantOf } from '../../ops/attention.ts';
import { attentionGradientKernel, attentionGradientScratch } from '../kernels/attention.ts';
import { blockBytesOf } from '../weights.ts';
import { clearKernels, clearStep } from './clear.ts';

type Attributes = AttentionGradientNode['attributes'];

const keyOf = ({ keySize, headSize, blocks }: Attributes): string =>
  `attentionGradient:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

/** What the backward kernel reads of a node, and its units. */
export function attentionGradientFields(node: AttentionGradientNode, lowering: Lowering) {
  const { attributes, inputs, outputs } = node;
  const { sources, of, ofParameters, statistics } = attributes;
  const { at } = lowering;
  // As the forward node saw it.
  const forward = attentionFields(
    { ...node, outputs: inputs.slice(sources, sources + 1 + (statistics ? 1 : 0)) },
    lowering,
  );
  const places = [attributes.queries, attributes.keys, attributes.values];
  const [dQ, dK, dV] = places.map((place) =>
    'input' in place
      ? at(outputs[of.indexOf(place.input)]) - at(inputs[place.input])
      : ofParameters.includes(place.parameter)
        ? blockBytesOf(lowering)
        : 0,
  );
  const shared = places.some((place) => 'parameter' in place);
  const dStatistics = inputs[sources + 3];
  const fields = {
    ...forward,
    dO: at(inputs[sources + 2]),
    dStatistics: dStatistics ? at(dStatistics) : 0,
    dQ,
    dK,
    dV,
    batches: shared ? forward.B : 1,
  };
  return { fields, units: ((shared ? 1 : forward.B) * forward.H) / forward.group };
}

/** Gradients start from 0: heads that the attention does not read stay there. */
export const clearOutputs = ({ outputs }: AttentionGradientNode, lowering: Lowering): Step[] =>
  outputs.map((d) => clearStep(lowering, lowering.at(d), elements(lowering.shape(d))));

export const attentionGradientLowering: OpLowering<AttentionGradientNode> = {
  kind: 'attentionGradient',
  kernels: {
    ...clearKernels,
    attentionGradient: (variant) => attentionGradientKernel(variantOf(variant)) as Kernel,
  },
  keys: ({ attributes }) => [keyOf(attributes), 'clearFlat'],
  scratchBytes: (node, shape) => attentionGradientScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const { fields, units } = attentionGradientFields(node, lowering);
    return [...clearOutputs(node, lowering), lowering.step(keyOf(node.attributes), fields, units, 1)];
  },
};
