import type { OpDefinition, ReferenceContext } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import {
  type AttentionAttributes,
  type AttentionOptions,
  type AttentionSources,
  attentionNode,
  attentionReference,
  type ReferenceRow,
} from './attention.ts';
import type { BlockLists } from './select-blocks.ts';

export interface DynamicAttentionAttributes extends AttentionAttributes {
  /** Indices of the inputs that hold the lists and their entries. */
  readonly lists: number;
  readonly entries: number;
}
export type DynamicAttentionNode = Node<'dynamicAttention', DynamicAttentionAttributes>;

/** Attention over the blocks that lists made at run time keep; as `attention` otherwise, without a mask. */
export function dynamicAttention(
  t: Tracer,
  sources: AttentionSources,
  { lists, entries }: BlockLists,
  options: Omit<AttentionOptions, 'mask'>,
): Value {
  const node = attentionNode(sources, options);
  return t.emit('dynamicAttention', {
    ...node,
    inputs: [...node.inputs, lists, entries],
    attributes: {
      ...node.attributes,
      lists: node.inputs.length,
      entries: node.inputs.length + 1,
    } satisfies DynamicAttentionAttributes,
  })[0];
}

export const dynamicAttentionOp: OpDefinition<DynamicAttentionNode> = {
  kind: 'dynamicAttention',
  budget: { absolute: 2e-6, relative: 3e-6 },
  /** All pairs: what is kept is known only at run time. */
  multiplyAdds({ attributes: { heads, headSize, keySize, values } }, { inputs }) {
    const [, B, N] = inputs[values.input];
    return B * heads * (headSize + keySize) * N * N;
  },
  reference: ({ attributes }, context) =>
    attentionReference(attributes, context, undefined, keptByLists(attributes, context)),
};

/** Whether a row's lists keep the block of a key, for the reference. */
export function keptByLists(
  { lists: listsAt, entries: entriesAt, blocks }: DynamicAttentionAttributes,
  { inputs }: ReferenceContext,
): (row: ReferenceRow, k: number) => boolean {
  const [lists, entries] = [inputs[listsAt], inputs[entriesAt]];
  const [, B, H, rows] = lists.shape;
  const columns = entries.shape[3] / 2;
  const kept = new Set<number>();
  for (let list = 0; list < B * H * rows; list++)
    for (let e = lists.data[list]; e < lists.data[B * H * rows + list]; e++)
      kept.add(list * columns + entries.data[2 * e]);
  return ({ b, h, q }, k) =>
    kept.has(((b * H + h) * rows + Math.floor(q / blocks.query)) * columns + Math.floor(k / blocks.key));
}
