import type { ScoredAttentionNode } from '../../../program/ops/scored-attention.ts';
import { alibiSlopes, type ScoreExpression } from '../../../program/score/expression.ts';
import { attentionKernel, attentionScratch } from '../kernels/attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { scoreConstants, scoreHook } from '../kernels/score.ts';
import type { OpLowering } from '../lowering.ts';
import { attentionFields, keysOf, variantOf } from './attention.ts';

const PREFIX = 'scoredAttention';

const keyOf = ({ keySize, headSize, blocks, score }: ScoredAttentionNode['attributes']): string =>
  `${PREFIX}:${keySize}:${headSize}:${blocks.query}:${blocks.key}:${encodeURIComponent(JSON.stringify(score))}`;

function kernelOf(text: string): Kernel {
  const colon = text.lastIndexOf(':');
  const score = JSON.parse(decodeURIComponent(text.slice(colon + 1))) as ScoreExpression;
  const variant = variantOf(text.slice(0, colon));
  return attentionKernel({ ...variant, hook: scoreHook(score, variant.blocks) }) as unknown as Kernel;
}

const words = (floats: readonly number[]): Int32Array => new Int32Array(Float32Array.from(floats).buffer);

export const scoredAttentionLowering: OpLowering<ScoredAttentionNode> = {
  kind: PREFIX,
  kernels: { [PREFIX]: kernelOf },
  keys: ({ attributes }) => [keyOf(attributes)],
  scratchBytes: (node, shape) =>
    attentionScratch(keysOf(node, shape), node.attributes) +
    scoreHook(node.attributes.score, node.attributes.blocks).scratchBytes,
  steps(node, lowering) {
    const { attributes } = node;
    const { score, heads } = attributes;
    const table = attributes.table === null ? null : node.parameters[attributes.table];
    const fields = {
      ...attentionFields(node, lowering),
      // The hook scales: the softmax finds natural units.
      scale: Math.LOG2E,
      scoreScale: attributes.scale,
      scoreConstants: lowering.table(`score:${JSON.stringify(score)}`, () => words(scoreConstants(score))),
      slopes: lowering.table(`slopes:${heads}`, () => words(alibiSlopes(heads))),
      table: table ? lowering.weight(table) : 0,
      reach: table ? (table.shape[1] - 1) / 2 : 0,
    };
    return [lowering.step(keyOf(attributes), fields, fields.B * fields.H, 1)];
  },
};
