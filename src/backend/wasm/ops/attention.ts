import { type BlockMask, buildBlockMask } from '../../../program/mask/block-mask.ts';
import { usesHead } from '../../../program/mask/expression.ts';
import type { AttentionNode } from '../../../program/ops/attention.ts';
import type { Node, Value } from '../../../program/program.ts';
import { type AttentionVariant, attentionKernel, attentionScratch } from '../kernels/attention.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { Lowering, OpLowering } from '../lowering.ts';

type Attributes = AttentionNode['attributes'];
/** A node of any op with attention's sources. */
export type AttentionLike = Node<string, Attributes>;

const keyOf = ({ keySize, headSize, blocks }: Attributes): string =>
  `attention:${keySize}:${headSize}:${blocks.query}:${blocks.key}`;

export function variantOf(text: string): Omit<AttentionVariant, 'hook'> {
  const [keySize, headSize, query, key] = text.split(':').map(Number);
  return { keySize, headSize, blocks: { query, key } };
}

/** Address and strides of one source. */
export function headsOf(
  node: Pick<AttentionNode, 'inputs' | 'parameters'>,
  place: Attributes['queries'],
  { at, shape, weight }: Lowering,
): { base: number; head: number; batch: number; rows: number } {
  if ('parameter' in place) {
    const parameter = node.parameters[place.parameter];
    const [, rows, pitch] = parameter.shape;
    const head = rows * pitch * 4;
    return { base: weight(parameter) + place.from * head, head, batch: 0, rows };
  }
  const value = node.inputs[place.input];
  const [, B, rows, pitch] = shape(value);
  const batch = rows * pitch * 4;
  return { base: at(value) + place.from * B * batch, head: B * batch, batch, rows };
}

/** Addresses of a BlockMask's tables. */
export function placeMask(mask: BlockMask | (() => BlockMask), key: string, { table }: Lowering) {
  let built: BlockMask | null = typeof mask === 'function' ? null : mask;
  const get = () => {
    built ??= (mask as () => BlockMask)();
    return built;
  };
  const part = (name: 'starts' | 'ends' | 'entries' | 'tiles') => table(`${key}:${name}`, () => get()[name]);
  return { starts: part('starts'), ends: part('ends'), entries: part('entries'), tiles: part('tiles') };
}

export const keysOf = (node: AttentionLike, shape: (value: Value) => readonly number[]): number =>
  shape(node.inputs[node.attributes.values.input])[2];

export const attentionLowering: OpLowering<AttentionNode> = {
  kind: 'attention',
  kernels: { attention: (variant) => attentionKernel(variantOf(variant)) as Kernel },
  keys: ({ attributes }) => [keyOf(attributes)],
  scratchBytes: (node, shape) => attentionScratch(keysOf(node, shape), node.attributes),
  steps(node, lowering) {
    const fields = attentionFields(node, lowering);
    return [lowering.step(keyOf(node.attributes), fields, fields.B * fields.H, 1)];
  },
};

/** Where a node's queries, keys and values, its output and its lengths stand: a kernel's `HEAD_FIELDS`. */
export function headFields(
  node: Pick<AttentionNode, 'inputs' | 'parameters' | 'outputs'> & {
    readonly attributes: Pick<Attributes, 'queries' | 'keys' | 'values' | 'lengths' | 'heads'>;
  },
  lowering: Lowering,
) {
  const { attributes, inputs, outputs } = node;
  const [q, k, v] = [attributes.queries, attributes.keys, attributes.values].map((place) =>
    headsOf(node, place, lowering),
  );
  return {
    q: q.base,
    qHead: q.head,
    qBatch: q.batch,
    k: k.base,
    kHead: k.head,
    kBatch: k.batch,
    v: v.base,
    vHead: v.head,
    vBatch: v.batch,
    o: lowering.at(outputs[0]),
    lengths: attributes.lengths === null ? 0 : lowering.at(inputs[attributes.lengths]),
    N: lowering.shape(outputs[0])[1],
    S: v.rows,
    H: attributes.heads,
  };
}

/** What the kernel reads of a node: the fields of its descriptor. A unit is one of `B · H`. */
export function attentionFields(node: AttentionLike, lowering: Lowering) {
  const { attributes, outputs } = node;
  const { keyHeads, mask, blocks } = attributes;
  const fields = headFields(node, lowering);
  const { N, S, H } = fields;
  const key = `mask:${N}:${S}:${blocks.query}:${blocks.key}:${H}:${JSON.stringify(mask)}`;
  const size = { heads: H, queries: N, keys: S, queryBlock: blocks.query, keyBlock: blocks.key };
  const perHead = mask !== null && usesHead(mask);
  return {
    ...fields,
    statistics: attributes.statistics ? lowering.at(outputs[1]) : 0,
    scale: attributes.scale * Math.LOG2E,
    B: lowering.shape(outputs[0])[0],
    group: H / keyHeads,
    ...placeMask(() => buildBlockMask(mask, size), key, lowering),
    headLists: perHead ? Math.ceil(N / blocks.query) * 4 : 0,
    batchLists: 0,
  };
}
