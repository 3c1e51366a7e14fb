import type { AttentionGradientNode } from '../../../../program/gradient/attention.ts';
import type { DynamicAttentionGradientNode } from '../../../../program/gradient/dynamic-attention.ts';
import type { ScoredAttentionGradientNode } from '../../../../program/gradient/scored-attention.ts';
import type { Node } from '../../../../program/program.ts';
import { alibiSlopes } from '../../../../program/score/expression.ts';
import { elements } from '../../../../tensor/codec.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { scoreConstants } from '../../kernels/score.ts';
import type { Lowering, OpLowering, Step } from '../../lowering.ts';
import { attentionFields, keysOf, variantOf } from '../../ops/attention.ts';
import { attentionGradientKernel, attentionGradientScratch } from '../kernels/attention.ts';
import { type ScoreChangeVariant, scoreGradientHook } from '../kernels/score-gradient.ts';
import { blockBytesOf } from '../weights.ts';
import { clearKernels, clearStep } from './clear.ts';

type Attributes = AttentionGradientNode['attributes'];

const keyOf = ({ keySize, headSize, blocks }: Attributes): string =>
  `attentionGradient:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

/** What the backward kernel reads of a node, and its units. */
export function attentionGradientFields(node: Node<string, Attributes>, lowering: Lowering) {
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
export const clearOutputs = ({ outputs }: Node<string, Attributes>, lowering: Lowering): Step[] =>
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

const dynamicKey = (attributes: Attributes): string => `dynamic${keyOf(attributes)}`;

export const dynamicAttentionGradientLowering: OpLowering<DynamicAttentionGradientNode> = {
  kind: 'dynamicAttentionGradient',
  kernels: {
    ...clearKernels,
    dynamicattentionGradient: (variant) => attentionGradientKernel(variantOf(variant)) as Kernel,
  },
  keys: ({ attributes }) => [dynamicKey(attributes), 'clearFlat'],
  scratchBytes: (node, shape) => attentionGradientScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const { at, shape, step } = lowering;
    const { attributes, inputs } = node;
    const lists = inputs[attributes.lists];
    const [, B, H, rows] = shape(lists);
    const { fields, units } = attentionGradientFields(node, lowering);
    const all = {
      ...fields,
      starts: at(lists),
      ends: at(lists) + B * H * rows * 4,
      entries: at(inputs[attributes.entries]),
      headLists: rows * 4,
      batchLists: H * rows * 4,
    };
    return [...clearOutputs(node, lowering), step(dynamicKey(attributes), all, units, 1)];
  },
};

type ScoredAttributes = ScoredAttentionGradientNode['attributes'];
const changeOf = ({ score, slope, tableSlope }: ScoredAttributes): ScoreChangeVariant => ({
  score,
  slope,
  table: tableSlope !== null,
});
const scoredKey = (attributes: ScoredAttributes): string =>
  `scored${keyOf(attributes)}:${encodeURIComponent(JSON.stringify(changeOf(attributes)))}`;

const words = (floats: readonly number[]): Int32Array => new Int32Array(Float32Array.from(floats).buffer);

export const scoredAttentionGradientLowering: OpLowering<ScoredAttentionGradientNode> = {
  kind: 'scoredAttentionGradient',
  kernels: {
    ...clearKernels,
    scoredattentionGradient(text) {
      const colon = text.lastIndexOf(':');
      const variant = variantOf(text.slice(0, colon));
      const change = JSON.parse(decodeURIComponent(text.slice(colon + 1))) as ScoreChangeVariant;
      const hook = scoreGradientHook(change, variant.blocks);
      return attentionGradientKernel({ ...variant, hook }) as Kernel;
    },
  },
  keys: ({ attributes }) => [scoredKey(attributes), 'clearFlat'],
  scratchBytes({ attributes, ...node }, shape) {
    const hook = scoreGradientHook(changeOf(attributes), attributes.blocks);
    return attentionGradientScratch(keysOf({ ...node, attributes }, shape), { ...attributes, hook });
  },
  steps(node, lowering) {
    const { attributes } = node;
    const { score, slope, heads, tableSlope } = attributes;
    const table = attributes.table === null ? null : node.parameters[attributes.table];
    const { fields } = attentionGradientFields(node, lowering);
    const { table: tableOf, weight, step } = lowering;
    // A table is shared by all sequences.
    const batches = tableSlope === null ? fields.batches : fields.B;
    const all = {
      ...fields,
      batches,
      // The hook scales: the softmax finds natural units.
      scale: Math.LOG2E,
      scoreScale: attributes.scale,
      scoreConstants: tableOf(`score:${JSON.stringify(score)}`, () => words(scoreConstants(score))),
      slopeConstants: tableOf(`score:${JSON.stringify(slope)}`, () => words(scoreConstants(slope))),
      slopes: tableOf(`slopes:${heads}`, () => words(alibiSlopes(heads))),
      table: table ? weight(table) : 0,
      reach: table ? (table.shape[1] - 1) / 2 : 0,
      dTable: tableSlope === null ? 0 : blockBytesOf(lowering),
      tableSlope: tableSlope ?? 0,
    };
    const units = ((fields.B / batches) * fields.H) / fields.group;
    return [...clearOutputs(node, lowering), step(scoredKey(attributes), all, units, 1)];
  },
};
