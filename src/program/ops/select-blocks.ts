import { blocksOf, dim, mulDims, symbol } from '../../tensor/dim.ts';
import type { OpDefinition, ReferenceContext } from '../op.ts';
import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import {
  type AttentionAttributes,
  type AttentionSources,
  attentionNode,
  referenceRows,
} from './attention.ts';

/** How blocks are chosen while the model runs. */
export interface BlockChoice {
  /** Share of the predicted attention that the kept blocks hold; 1 keeps every block. */
  readonly mass: number;
  /** Blocks kept of each row of blocks, instead of a share; 0 for a share. */
  readonly topK: number;
  /** Blocks whose rows agree less than this (mean cosine of their pairs, −1 … 1) are not predicted but kept. */
  readonly similarity: number;
}

export interface SelectBlocksAttributes extends AttentionAttributes {
  readonly choice: BlockChoice;
}
export type SelectBlocksNode = Node<'selectBlocks', SelectBlocksAttributes>;

/** The blocks that each head of each sequence keeps: `lists` [2, B, H, ⌈N/q⌉] (starts, ends), `entries` and how many are kept. */
export interface BlockLists {
  readonly lists: Value;
  /** `[B, H, ⌈N/q⌉, ⌈N/k⌉, 2]`: block of keys, and −1 for a full one. */
  readonly entries: Value;
  /** `[B, H]` */
  readonly kept: Value;
}

/**
 * Predicts from the mean of each block of queries and of keys which blocks hold the attention, and keeps the
 * largest until they hold `mass` of it (SpargeAttn, Zhang et al. 2025, section 3.3). A block of keys whose rows
 * disagree is kept by all, a block of queries whose rows disagree keeps all, and the diagonal is always kept. Blocks
 * of queries beyond a sequence's length keep nothing.
 */
export function selectBlocks(
  t: Tracer,
  sources: AttentionSources,
  options: {
    heads: number;
    headSize: number;
    scale: number;
    blocks: { query: number; key: number };
    choice: BlockChoice;
  },
): BlockLists {
  const { choice, ...rest } = options;
  const node = attentionNode(sources, rest);
  const [H, B] = [dim(options.heads), symbol('B')];
  const [rows, columns] = [blocksOf('N', options.blocks.query), blocksOf('N', options.blocks.key)];
  const [lists, entries, kept] = t.emit('selectBlocks', {
    ...node,
    outputs: [
      ['lists', 'int32', [dim(2), B, H, rows]],
      ['entries', 'int32', [B, H, rows, mulDims(columns, 2)]],
      ['kept', 'int32', [B, H]],
    ],
    attributes: { ...node.attributes, choice } satisfies SelectBlocksAttributes,
  });
  return { lists, entries, kept };
}

interface Pooled {
  /** Mean of the block's rows. */
  readonly mean: Float64Array;
  /** Mean cosine of the pairs of its rows. */
  readonly agreement: number;
}

function poolBlock(
  data: Float64Array,
  at: (row: number) => number,
  from: number,
  to: number,
  D: number,
): Pooled {
  const mean = new Float64Array(D);
  const direction = new Float64Array(D);
  for (let row = from; row < to; row++) {
    let square = 0;
    for (let d = 0; d < D; d++) square += data[at(row) + d] ** 2;
    const norm = Math.sqrt(Math.max(square, 1e-30));
    for (let d = 0; d < D; d++) {
      mean[d] += data[at(row) + d] / (to - from);
      direction[d] += data[at(row) + d] / norm / (to - from);
    }
  }
  return { mean, agreement: direction.reduce((sum, x) => sum + x * x, 0) };
}

/** Blocks of keys that one block of queries keeps, in ascending order. */
function chooseRow(
  own: Pooled,
  keys: readonly Pooled[],
  diagonal: number,
  scale: number,
  choice: BlockChoice,
): number[] {
  const { mass, topK, similarity } = choice;
  if (mass >= 1 || own.agreement < similarity) return keys.map((_, j) => j);
  const predicted = keys.map(({ agreement }) => agreement >= similarity);
  const scores = keys.map(({ mean }) => scale * mean.reduce((sum, x, d) => sum + x * own.mean[d], 0));
  const largest = Math.max(...scores.filter((_, j) => predicted[j]));
  const weights = scores.map((s, j) => (predicted[j] ? Math.exp(s - largest) : 0));
  const total = weights.reduce((a, b) => a + b, 0);
  const kept = new Set(keys.flatMap((_, j) => (!predicted[j] || j === diagonal ? [j] : [])));
  const order = weights
    .flatMap((_, j) => (predicted[j] ? [j] : []))
    .sort((a, b) => weights[b] - weights[a] || a - b);
  let held = 0;
  let taken = 0;
  for (const j of order) {
    if (topK > 0 ? taken >= topK : held >= mass * total) break;
    kept.add(j);
    held += weights[j];
    taken++;
  }
  return [...kept].sort((a, b) => a - b);
}

export const selectBlocksOp: OpDefinition<SelectBlocksNode> = {
  kind: 'selectBlocks',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds({ attributes: { heads, keySize, values, blocks } }, { inputs }) {
    const [, B, N] = inputs[values.input];
    const pairs = Math.ceil(N / blocks.query) * Math.ceil(N / blocks.key);
    return B * heads * keySize * (pairs + 4 * N);
  },
  reference({ attributes }, context: ReferenceContext) {
    const { heads: H, keyHeads, keySize: D, scale, blocks, choice, lengths } = attributes;
    const queries = referenceRows(attributes.queries, context);
    const keys = referenceRows(attributes.keys, context);
    const [listShape, entryShape] = context.outputShapes;
    const [, B, , rows] = listShape;
    const columns = entryShape[3] / 2;
    const lists = new Float64Array(2 * B * H * rows);
    const entries = new Float64Array(B * H * rows * columns * 2);
    const kept = new Float64Array(B * H);
    for (let b = 0; b < B; b++) {
      const n = Math.min(lengths === null ? keys.rows : context.inputs[lengths].data[b], keys.rows);
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * keyHeads) / H);
        const pooled = Array.from({ length: Math.ceil(n / blocks.key) }, (_, j) =>
          poolBlock(
            keys.data,
            (row) => keys.at(g, b, row),
            j * blocks.key,
            Math.min(n, (j + 1) * blocks.key),
            D,
          ),
        );
        for (let i = 0; i < rows; i++) {
          const list = (b * H + h) * rows + i;
          const first = i * blocks.query;
          const last = Math.min(n, first + blocks.query);
          const diagonal = Math.floor(first / blocks.key);
          const own =
            first < n ? poolBlock(queries.data, (row) => queries.at(h, b, row), first, last, D) : null;
          const chosen = own ? chooseRow(own, pooled, diagonal, scale, choice) : [];
          lists[list] = list * columns;
          lists[B * H * rows + list] = list * columns + chosen.length;
          chosen.forEach((j, at) => {
            entries.set([j, -1], (list * columns + at) * 2);
          });
          kept[b * H + h] += chosen.length;
        }
      }
    }
    return [lists, entries, kept];
  },
};
