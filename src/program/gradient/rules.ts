import { activationRule } from './activation.ts';
import { addRule } from './add.ts';
import { attentionRule } from './attention.ts';
import { dropoutRule } from './dropout.ts';
import { fakeBinarizeRule, fakeQuantizeRowsRule } from './fake-quantize.ts';
import { embeddingRule, poolRule, selectRowsRule } from './gather.ts';
import { layerNormRule } from './layer-norm.ts';
import { linearRule } from './linear.ts';
import { meanRowsRule, weightedSumRule } from './loss-sums.ts';
import { matrixProductRule } from './matrix-product.ts';
import { l2NormalizeRule, softmaxRule } from './normalize.ts';
import { pairLossRule } from './pair-loss.ts';
import { rowLossRules } from './row-losses.ts';
import type { GradientRule } from './rule.ts';

/** How each kind of op is differentiated. */
export const RULES: ReadonlyMap<string, GradientRule> = new Map(
  [
    activationRule,
    addRule,
    attentionRule,
    dropoutRule,
    embeddingRule,
    fakeBinarizeRule,
    fakeQuantizeRowsRule,
    l2NormalizeRule,
    layerNormRule,
    linearRule,
    matrixProductRule,
    meanRowsRule,
    pairLossRule,
    poolRule,
    ...rowLossRules,
    selectRowsRule,
    softmaxRule,
    weightedSumRule,
  ].map((rule) => [rule.kind, rule as unknown as GradientRule]),
);
