import type { DequantizeNode } from '../../../program/ops/dequantize.ts';
import type { IntEmbeddingNode } from '../../../program/ops/int-embedding.ts';
import type { IntL2NormalizeNode } from '../../../program/ops/int-l2-normalize.ts';
import type { IntLayerNormNode } from '../../../program/ops/int-layer-norm.ts';
import type { IntPooling, IntPoolNode } from '../../../program/ops/int-pool.ts';
import type { RequantizeNode } from '../../../program/ops/requantize.ts';
import { intEmbeddingKernel } from '../kernels/int-embedding.ts';
import {
  dequantizeKernel,
  intL2NormalizeKernel,
  intLayerNormKernel,
  intPoolKernel,
  requantizeKernel,
} from '../kernels/int-rows.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { type OpLowering, only } from '../lowering.ts';

export const intLayerNormLowering: OpLowering<IntLayerNormNode> = {
  kind: 'intLayerNorm',
  kernels: { intLayerNorm: only(intLayerNormKernel) },
  keys: () => ['intLayerNorm'],
  steps({ inputs: [x], outputs: [y], parameters, attributes }, { at, shape, weight, step, first, count }) {
    const [multiplier, bias] = parameters.map(weight);
    const columns = shape(x).at(-1)!;
    const { epsilon, shift, zeroPoint } = attributes;
    const fields = {
      x: at(x, first, columns * 4),
      y: at(y, first, columns),
      multiplier,
      bias,
      columns,
      epsilonLow: (epsilon % 2 ** 32) | 0,
      epsilonHigh: Math.floor(epsilon / 2 ** 32),
      shift,
      zeroPoint,
    };
    return [step('intLayerNorm', fields, count)];
  },
};

export const intL2NormalizeLowering: OpLowering<IntL2NormalizeNode> = {
  kind: 'intL2Normalize',
  kernels: { intL2Normalize: only(intL2NormalizeKernel) },
  keys: () => ['intL2Normalize'],
  steps({ inputs: [x], outputs: [y] }, { at, shape, step, first, count }) {
    const columns = shape(x).at(-1)!;
    const fields = { x: at(x, first, columns * 4), y: at(y, first, columns * 4), columns };
    return [step('intL2Normalize', fields, count)];
  },
};

export const requantizeLowering: OpLowering<RequantizeNode> = {
  kind: 'requantize',
  kernels: { requantize: only(requantizeKernel) },
  keys: () => ['requantize'],
  steps({ inputs: [x], outputs: [y], attributes }, { at, shape, step, first, count }) {
    const columns = shape(x).at(-1)!;
    const fields = { x: at(x, first, columns * 4), y: at(y, first, columns), columns, ...attributes };
    return [step('requantize', fields, count)];
  },
};

export const dequantizeLowering: OpLowering<DequantizeNode> = {
  kind: 'dequantize',
  kernels: { dequantize: only(dequantizeKernel) },
  keys: () => ['dequantize'],
  steps({ inputs: [x], outputs: [y], attributes: { scale } }, { at, shape, step, first, count }) {
    const columns = shape(x).at(-1)!;
    const fields = { x: at(x, first, columns * 4), y: at(y, first, columns * 4), columns, scale };
    return [step('dequantize', fields, count)];
  },
};

export const intPoolLowering: OpLowering<IntPoolNode> = {
  kind: 'intPool',
  kernels: { intPool: (pooling) => intPoolKernel(pooling as IntPooling) as Kernel },
  keys: ({ attributes }) => [`intPool:${attributes.pooling}`],
  steps({ inputs: [x, lengths], outputs: [y], attributes }, { at, shape, step }) {
    const [B, N, columns] = shape(x);
    const { pooling, zeroPoint } = attributes;
    const fields = { x: at(x), y: at(y), lengths: at(lengths), N, columns, zeroPoint };
    return [step(`intPool:${pooling}`, fields, B * Math.ceil(columns / 4))];
  },
};

const embeddingKey = ({ attributes: { positions, tokenTypes } }: IntEmbeddingNode): string =>
  `intEmbedding:${positions}:${tokenTypes}`;

export const intEmbeddingLowering: OpLowering<IntEmbeddingNode> = {
  kind: 'intEmbedding',
  kernels: {
    intEmbedding: (variant) => {
      const [positions, tokenTypes] = variant.split(':').map((flag) => flag === 'true');
      return intEmbeddingKernel(positions, tokenTypes) as Kernel;
    },
  },
  keys: (node) => [embeddingKey(node)],
  steps(node, { at, shape, weight, step }) {
    const { positions, tokenTypes, shift } = node.attributes;
    const places = node.parameters.map(weight);
    const [word, wordMultiplier] = places;
    const [position, positionMultiplier] = positions ? places.slice(2) : [0, 0];
    const [tokenType, tokenTypeMultiplier] = tokenTypes ? places.slice(-2) : [0, 0];
    const [y] = node.outputs;
    const [B, N, columns] = shape(y);
    const fields = {
      ids: at(node.inputs[0]),
      types: tokenTypes ? at(node.inputs[1]) : 0,
      y: at(y),
      word,
      wordMultiplier,
      position,
      positionMultiplier,
      tokenType,
      tokenTypeMultiplier,
      columns,
      N,
      positions: positions ? node.parameters[2].shape[0] : 1,
      shift,
    };
    return [step(embeddingKey(node), fields, B * N)];
  },
};
