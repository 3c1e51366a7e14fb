import type { Program } from '../../../program/program.ts';
import { type Lowerings, loadLowerings } from '../lower.ts';
import type { OpLowering } from '../lowering.ts';
import {
  attentionGradientLowering,
  dynamicAttentionGradientLowering,
  scoredAttentionGradientLowering,
} from './ops/attention.ts';
import {
  fakeBinarizeLowering,
  fakeQuantizeLowering,
  fakeQuantizeRowsLowering,
  straightThroughGradientLowering,
} from './ops/fake-quantize.ts';
import { fastWeightsGradientLowering } from './ops/fast-weights.ts';
import { poolGradientLowering, scatterRowsLowering, selectRowsGradientLowering } from './ops/gather.ts';
import { headProductLowering, headProductSumLowering } from './ops/head-product.ts';
import {
  linearInputGradientLowering,
  linearWeightGradientLowering,
  unpackedLinearLowering,
} from './ops/linear.ts';
import { linearAttentionLowerings } from './ops/linear-attention.ts';
import {
  meanRowsGradientLowering,
  meanRowsLowering,
  rowLossLowerings,
  rowNumbersLowering,
  weightedSumLowering,
} from './ops/losses.ts';
import { matrixProductLowering } from './ops/matrix-product.ts';
import {
  mergeAttentionGradientLowering,
  regroupByResidueLowering,
  rotaryGradientLowering,
  storedAttentionGradientLowering,
} from './ops/mixing.ts';
import { pairLossGradientLowering, pairLossLowering } from './ops/pair-loss.ts';
import { rowAttentionGradientLowering } from './ops/row-attention.ts';
import {
  activationGradientLowering,
  addLowering,
  dropoutLowering,
  l2NormalizeGradientLowering,
  layerNormGradientLowering,
  layerNormWeightGradientLowering,
  softmaxGradientLowering,
} from './ops/rows.ts';
import { spikingLowerings } from './ops/spiking-attention.ts';
import { adamWLowering, gradientNormLowering } from './ops/update.ts';

const TRAINING: Lowerings = new Map(
  [
    activationGradientLowering,
    adamWLowering,
    addLowering,
    attentionGradientLowering,
    dynamicAttentionGradientLowering,
    mergeAttentionGradientLowering,
    regroupByResidueLowering,
    rotaryGradientLowering,
    rowAttentionGradientLowering,
    scoredAttentionGradientLowering,
    storedAttentionGradientLowering,
    dropoutLowering,
    fakeBinarizeLowering,
    fakeQuantizeLowering,
    fakeQuantizeRowsLowering,
    fastWeightsGradientLowering,
    gradientNormLowering,
    headProductLowering,
    headProductSumLowering,
    l2NormalizeGradientLowering,
    layerNormGradientLowering,
    layerNormWeightGradientLowering,
    ...linearAttentionLowerings,
    linearInputGradientLowering,
    linearWeightGradientLowering,
    meanRowsGradientLowering,
    matrixProductLowering,
    meanRowsLowering,
    rowNumbersLowering,
    pairLossGradientLowering,
    pairLossLowering,
    poolGradientLowering,
    ...rowLossLowerings,
    scatterRowsLowering,
    selectRowsGradientLowering,
    softmaxGradientLowering,
    ...spikingLowerings,
    straightThroughGradientLowering,
    unpackedLinearLowering,
    weightedSumLowering,
  ].map((lowering) => [lowering.kind, lowering as unknown as OpLowering]),
);

/** How ops run where weights are trained; what is not otherwise runs as in inference. */
export async function trainingLowerings(programs: readonly Program[]): Promise<Lowerings> {
  const nodes = programs.flatMap((p) => p.nodes);
  const forward = nodes.filter(({ kind }) => !TRAINING.has(kind));
  const loaded = await loadLowerings([{ inputs: [], outputs: [], stages: [], nodes: forward }]);
  return new Map([
    ...loaded,
    ...nodes.flatMap(({ kind }) => (TRAINING.has(kind) ? [[kind, TRAINING.get(kind)!] as const] : [])),
  ]);
}
