import type { DynamicAttentionNode } from '../../../program/ops/dynamic-attention.ts';
import type { SelectBlocksNode } from '../../../program/ops/select-blocks.ts';
import { attentionKernel, attentionScratch } from '../kernels/attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { selectBlocksKernel, selectBlocksScratch } from '../kernels/select-blocks.ts';
import type { OpLowering } from '../lowering.ts';
import { attentionFields, headsOf, keysOf, variantOf } from './attention.ts';

const attentionKey = ({ keySize, headSize, blocks }: DynamicAttentionNode['attributes']): string =>
  `dynamicAttention:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

export const dynamicAttentionLowering: OpLowering<DynamicAttentionNode> = {
  kind: 'dynamicAttention',
  kernels: { dynamicAttention: (variant) => attentionKernel(variantOf(variant)) as unknown as Kernel },
  keys: ({ attributes }) => [attentionKey(attributes)],
  scratchBytes: (node, shape) => attentionScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const { attributes, inputs } = node;
    const { at, shape, step } = lowering;
    const lists = inputs[attributes.lists];
    const [, B, H, rows] = shape(lists);
    const fields = {
      ...attentionFields(node, lowering),
      starts: at(lists),
      ends: at(lists) + B * H * rows * 4,
      entries: at(inputs[attributes.entries]),
      headLists: rows * 4,
      batchLists: H * rows * 4,
    };
    return [step(attentionKey(attributes), fields, B * H, 1)];
  },
};

const selectKey = ({ keySize }: SelectBlocksNode['attributes']): string => `selectBlocks:${keySize}`;

export const selectBlocksLowering: OpLowering<SelectBlocksNode> = {
  kind: 'selectBlocks',
  kernels: { selectBlocks: (keySize) => selectBlocksKernel(Number(keySize)) as unknown as Kernel },
  keys: ({ attributes }) => [selectKey(attributes)],
  scratchBytes: (node, shape) =>
    selectBlocksScratch(Math.ceil(keysOf(node, shape) / node.attributes.blocks.key), node.attributes.keySize),
  steps(node, lowering) {
    const { attributes, inputs, outputs } = node;
    const { heads: H, keyHeads, blocks, choice, lengths } = attributes;
    const { at, shape, step } = lowering;
    const [q, k] = [attributes.queries, attributes.keys].map((place) => headsOf(node, place, lowering));
    const [lists, entries, kept] = outputs;
    const [, B, , rows] = shape(lists);
    const fields = {
      q: q.base,
      qHead: q.head,
      qBatch: q.batch,
      k: k.base,
      kHead: k.head,
      kBatch: k.batch,
      lengths: lengths === null ? 0 : at(inputs[lengths]),
      starts: at(lists),
      ends: at(lists) + B * H * rows * 4,
      entries: at(entries),
      kept: at(kept),
      S: k.rows,
      H,
      group: H / keyHeads,
      rows,
      columns: shape(entries)[3] / 2,
      queryBlock: blocks.query,
      keyBlock: blocks.key,
      scale: attributes.scale * Math.LOG2E,
      mass: choice.mass,
      topK: choice.topK,
      // Nothing agrees more than completely: then every block is kept.
      similarity: choice.mass >= 1 ? 2 : choice.similarity,
    };
    return [step(selectKey(attributes), fields, B * H, 1)];
  },
};
