import { TRAINING_OPS } from '../gradient/definitions.ts';
import type { OpDefinition } from '../op.ts';
import { activationOp } from './activation.ts';
import { attentionOp } from './attention.ts';
import { dequantizeOp } from './dequantize.ts';
import { dynamicAttentionOp } from './dynamic-attention.ts';
import { embeddingOp } from './embedding.ts';
import { fastWeightsOp } from './fast-weights.ts';
import { intAttentionOp } from './int-attention.ts';
import { intEmbeddingOp } from './int-embedding.ts';
import { intL2NormalizeOp } from './int-l2-normalize.ts';
import { intLayerNormOp } from './int-layer-norm.ts';
import { intLinearOp } from './int-linear.ts';
import { intPoolOp } from './int-pool.ts';
import { integerAttentionOp } from './integer-attention.ts';
import { layerNormOp } from './layer-norm.ts';
import { linearOp } from './linear.ts';
import { linearAttentionOp } from './linear-attention.ts';
import { mergeAttentionOp } from './merge-attention.ts';
import { l2NormalizeOp, softmaxOp } from './normalize.ts';
import { poolOp } from './pool.ts';
import { projectRowsOp } from './project-rows.ts';
import { quantizeBinaryOp } from './quantize-binary.ts';
import { quantizeRowsOp } from './quantize-rows.ts';
import { requantizeOp } from './requantize.ts';
import { groupByResidueOp, ungroupByResidueOp } from './residue.ts';
import { rotaryOp } from './rotary.ts';
import { rowAttentionOp } from './row-attention.ts';
import { scoredAttentionOp } from './scored-attention.ts';
import { selectBlocksOp } from './select-blocks.ts';
import { selectRowsOp } from './select-rows.ts';
import { spikingAttentionOp } from './spiking-attention.ts';
import { storedAttentionOp } from './stored-attention.ts';

/** Every op kind. The runtime never imports this: op functions alone are enough to trace and to run. */
export const OPS: ReadonlyMap<string, OpDefinition> = new Map(
  [
    activationOp,
    attentionOp,
    dynamicAttentionOp,
    selectBlocksOp,
    embeddingOp,
    fastWeightsOp,
    dequantizeOp,
    intAttentionOp,
    intEmbeddingOp,
    intL2NormalizeOp,
    intLayerNormOp,
    intLinearOp,
    intPoolOp,
    integerAttentionOp,
    requantizeOp,
    l2NormalizeOp,
    layerNormOp,
    linearAttentionOp,
    linearOp,
    groupByResidueOp,
    mergeAttentionOp,
    ungroupByResidueOp,
    poolOp,
    projectRowsOp,
    quantizeBinaryOp,
    quantizeRowsOp,
    rotaryOp,
    scoredAttentionOp,
    rowAttentionOp,
    selectRowsOp,
    softmaxOp,
    spikingAttentionOp,
    storedAttentionOp,
    ...TRAINING_OPS,
  ].map((op) => [op.kind, op as unknown as OpDefinition]),
);
