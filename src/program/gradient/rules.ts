import type { Node, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';
import { activationRule } from './activation.ts';
import { addRule } from './add.ts';
import { maskRowsRule } from './add-heads.ts';
import { attentionRule } from './attention.ts';
import { dropoutRule } from './dropout.ts';
import { dynamicAttentionRule } from './dynamic-attention.ts';
import { fakeBinarizeRule, fakeQuantizeRowsRule } from './fake-quantize.ts';
import { fastWeightsRule } from './fast-weights.ts';
import { featuresRule } from './features.ts';
import { embeddingRule, poolRule, selectRowsRule } from './gather.ts';
import { headProductRule } from './head-product.ts';
import { layerNormRule } from './layer-norm.ts';
import { linearRule } from './linear.ts';
import { divideByLastRule, expandLinearAttention, withOnesRule } from './linear-attention.ts';
import { meanRowsRule, weightedSumRule } from './loss-sums.ts';
import { matrixProductRule } from './matrix-product.ts';
import { mergeAttentionRule } from './merge-attention.ts';
import { l2NormalizeRule, softmaxRule } from './normalize.ts';
import { pairLossRule } from './pair-loss.ts';
import { projectRowsRule } from './project-rows.ts';
import { groupByResidueRule, ungroupByResidueRule } from './residue.ts';
import { rotaryRule } from './rotary.ts';
import { rowAttentionRule } from './row-attention.ts';
import { rowLossRules } from './row-losses.ts';
import type { GradientRule } from './rule.ts';
import { scoredAttentionRule } from './scored-attention.ts';
import { expandSpikingAttention, scaleHeadsRule, spikesRule } from './spiking-attention.ts';
import { storedAttentionRule } from './stored-attention.ts';

/** How each kind of op is differentiated. */
export const RULES: ReadonlyMap<string, GradientRule> = new Map(
  [
    activationRule,
    addRule,
    attentionRule,
    divideByLastRule,
    dropoutRule,
    embeddingRule,
    fakeBinarizeRule,
    fakeQuantizeRowsRule,
    fastWeightsRule,
    featuresRule,
    headProductRule,
    l2NormalizeRule,
    layerNormRule,
    linearRule,
    maskRowsRule,
    matrixProductRule,
    meanRowsRule,
    pairLossRule,
    poolRule,
    projectRowsRule,
    ...rowLossRules,
    selectRowsRule,
    softmaxRule,
    dynamicAttentionRule,
    mergeAttentionRule,
    groupByResidueRule,
    ungroupByResidueRule,
    rotaryRule,
    rowAttentionRule,
    scaleHeadsRule,
    scoredAttentionRule,
    spikesRule,
    storedAttentionRule,
    weightedSumRule,
    withOnesRule,
  ].map((rule) => [rule.kind, rule as unknown as GradientRule]),
);

type Expansion = (t: Tracer, node: Node, inputs: readonly Value[]) => Value[];

/** Ops that are trained as several others. */
export const EXPANSIONS: ReadonlyMap<string, Expansion> = new Map<string, Expansion>([
  ['linearAttention', expandLinearAttention as unknown as Expansion],
  ['spikingAttention', expandSpikingAttention as unknown as Expansion],
]);
