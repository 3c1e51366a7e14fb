import type { EmbeddingNode } from '../../../program/ops/embedding.ts';
import type { Pooling, PoolNode } from '../../../program/ops/pool.ts';
import type { Parameter } from '../../../program/program.ts';
import { sections, specOf } from '../../../tensor/codec.ts';
import { embeddingKernel, poolKernel, selectRowsKernel } from '../kernels/gather.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { TableFormat } from '../kernels/table.ts';
import { type OpLowering, only } from '../lowering.ts';

function tables({ parameters, attributes }: EmbeddingNode): {
  word: Parameter;
  position: Parameter | null;
  type: Parameter | null;
} {
  return {
    word: parameters[0],
    position: attributes.positions ? parameters[1] : null,
    type: attributes.tokenTypes ? parameters.at(-1)! : null,
  };
}

const formatOf = (p: Parameter | null): TableFormat | null => {
  if (!p) return null;
  const { shape: _, ...format } = specOf(p);
  return format;
};

function embeddingKey(node: EmbeddingNode): string {
  const { word, position, type } = tables(node);
  return `embedding:${JSON.stringify({ word: formatOf(word), position: formatOf(position), tokenType: formatOf(type) })}`;
}

export const embeddingLowering: OpLowering<EmbeddingNode> = {
  kind: 'embedding',
  kernels: { embedding: (variant) => embeddingKernel(JSON.parse(variant)) as Kernel },
  keys: (node) => [embeddingKey(node)],
  steps(node, { at, shape, weight, step }) {
    const { word, position, type } = tables(node);
    const [y] = node.outputs;
    const [B, N, C] = shape(y);
    const addresses = (name: string, p: Parameter | null) => {
      const [, scales, zeros] = p ? sections(p) : [];
      const base = p ? weight(p) : 0;
      return {
        [name]: base,
        [`${name}Scales`]: base + (scales?.offset ?? 0),
        [`${name}Zeros`]: base + (zeros?.offset ?? 0),
      };
    };
    const fields = {
      ids: at(node.inputs[0]),
      types: type ? at(node.inputs[1]) : 0,
      y: at(y),
      ...addresses('word', word),
      ...addresses('position', position),
      ...addresses('tokenType', type),
      columns: C,
      N,
      positions: position?.shape[0] ?? 1,
      factor: node.attributes.wordScale,
    };
    return [step(embeddingKey(node), fields, B * N)];
  },
};

export const poolLowering: OpLowering<PoolNode> = {
  kind: 'pool',
  kernels: { pool: (pooling) => poolKernel(pooling as Pooling) as Kernel },
  keys: ({ attributes }) => [`pool:${attributes.pooling}`],
  steps({ inputs: [x, lengths], outputs: [y], attributes }, { at, shape, step }) {
    const [B, N, C] = shape(x);
    const fields = { x: at(x), y: at(y), lengths: at(lengths), N, columns: C };
    return [step(`pool:${attributes.pooling}`, fields, B)];
  },
};

export const selectRowsLowering: OpLowering = {
  kind: 'selectRows',
  kernels: { selectRows: only(selectRowsKernel) },
  keys: () => ['selectRows'],
  steps({ inputs: [x, rows], outputs: [y] }, { at, shape, step }) {
    const [B, P, C] = shape(y);
    const fields = { x: at(x), y: at(y), rows: at(rows), N: shape(x)[1], P, columns: C };
    return [step('selectRows', fields, B * P)];
  },
};
