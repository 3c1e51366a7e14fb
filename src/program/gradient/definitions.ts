import type { OpDefinition } from '../op.ts';
import { fakeBinarizeOp } from '../ops/fake-binarize.ts';
import { fakeQuantizeOp } from '../ops/fake-quantize.ts';
import { fakeQuantizeRowsOp } from '../ops/fake-quantize-rows.ts';
import { activationGradientOp } from './activation.ts';
import { addOp } from './add.ts';
import { addHeadsOp, maskRowsOp } from './add-heads.ts';
import { attentionGradientOp } from './attention.ts';
import { dropoutOp } from './dropout.ts';
import { dynamicAttentionGradientOp } from './dynamic-attention.ts';
import { straightThroughGradientOp } from './fake-quantize.ts';
import { fastWeightsGradientOp } from './fast-weights.ts';
import { featuresGradientOp, featuresOp } from './features.ts';
import { poolGradientOp, scatterRowsOp, selectRowsGradientOp } from './gather.ts';
import { headProductOp, headProductSumOp } from './head-product.ts';
import { layerNormGradientOp, layerNormWeightGradientOp } from './layer-norm.ts';
import { linearInputGradientOp, linearWeightGradientOp } from './linear.ts';
import { divideByLastGradientOp, divideByLastOp, withOnesOp, withoutOnesOp } from './linear-attention.ts';
import { meanRowsGradientOp, meanRowsOp, weightedSumOp } from './loss-sums.ts';
import { matrixProductOp, rowNumbersOp } from './matrix-product.ts';
import { mergeAttentionGradientOp } from './merge-attention.ts';
import { l2NormalizeGradientOp, softmaxGradientOp } from './normalize.ts';
import { pairLossGradientOp, pairLossOp } from './pair-loss.ts';
import { regroupByResidueOp } from './residue.ts';
import { rotaryGradientOp } from './rotary.ts';
import { rowAttentionGradientOp } from './row-attention.ts';
import { rowLossGradientOps, rowLossOps } from './row-losses.ts';
import { scoredAttentionGradientOp } from './scored-attention.ts';
import { SPIKING_OPS } from './spiking-attention.ts';
import { storedAttentionGradientOp } from './stored-attention.ts';

/** The ops that exist for training. */
export const TRAINING_OPS = [
  activationGradientOp,
  addHeadsOp,
  addOp,
  attentionGradientOp,
  divideByLastGradientOp,
  divideByLastOp,
  dropoutOp,
  fakeBinarizeOp,
  fakeQuantizeOp,
  fakeQuantizeRowsOp,
  fastWeightsGradientOp,
  featuresGradientOp,
  featuresOp,
  headProductOp,
  headProductSumOp,
  l2NormalizeGradientOp,
  layerNormGradientOp,
  layerNormWeightGradientOp,
  linearInputGradientOp,
  linearWeightGradientOp,
  maskRowsOp,
  matrixProductOp,
  meanRowsGradientOp,
  meanRowsOp,
  rowNumbersOp,
  pairLossGradientOp,
  pairLossOp,
  poolGradientOp,
  ...rowLossGradientOps,
  ...rowLossOps,
  scatterRowsOp,
  selectRowsGradientOp,
  softmaxGradientOp,
  straightThroughGradientOp,
  dynamicAttentionGradientOp,
  mergeAttentionGradientOp,
  regroupByResidueOp,
  rotaryGradientOp,
  rowAttentionGradientOp,
  scoredAttentionGradientOp,
  ...SPIKING_OPS,
  storedAttentionGradientOp,
  weightedSumOp,
  withOnesOp,
  withoutOnesOp,
] as unknown as readonly OpDefinition[];
