import type { EmbeddingNode } from '../../../program/ops/embedding.ts';
import type { Pooling, PoolNode } from '../../../program/ops/pool.ts';
import type { Parameter } from '../../../program/program.ts';
import { elements } from '../../../tensor/codec.ts';
import { expectServed, servesTable } from '../codecs.ts';
import { embeddingKernel, poolKernel, selectRowsKernel, type TableCodec } from '../kernels/gather.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { type OpLowering, only } from '../lowering.ts';
import { storedCodec } from '../weights.ts';

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

function embeddingKey(node: EmbeddingNode): string {
  const { word, position, type } = tables(node);
  return `embedding:${storedCodec(word)}:${position ? storedCodec(position) : ''}:${type ? storedCodec(type) : ''}`;
}

export const embeddingLowering: OpLowering<EmbeddingNode> = {
  kind: 'embedding',
  kernels: {
    embedding: (variant) => {
      const [word, position, type] = variant.split(':').map((codec) => (codec || null) as TableCodec | null);
      return embeddingKernel(word!, position, type) as Kernel;
    },
  },
  keys(node) {
    expectServed(node.parameters, servesTable);
    return [embeddingKey(node)];
  },
  steps(node, { at, shape, weight, step }) {
    const { word, position, type } = tables(node);
    const table = (p: Parameter | null) => (p ? weight(p) : 0);
    const scales = (p: Parameter | null) =>
      p?.codec === 'int8' ? table(p) + ((elements(p.shape) + 3) & ~3) : 0;
    const [y] = node.outputs;
    const [B, N, C] = shape(y);
    const fields = {
      ids: at(node.inputs[0]),
      types: type ? at(node.inputs[1]) : 0,
      y: at(y),
      word: table(word),
      wordScales: scales(word),
      position: table(position),
      positionScales: scales(position),
      tokenType: table(type),
      tokenTypeScales: scales(type),
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
