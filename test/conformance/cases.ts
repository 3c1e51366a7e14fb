import type { ConformanceCase } from './case.ts';
import { attentionCases } from './cases/attention.ts';
import { dynamicAttentionCases } from './cases/dynamic-attention.ts';
import { fastWeightsCases } from './cases/fast-weights.ts';
import { embeddingCases, poolCases, selectRowsCases } from './cases/gather.ts';
import { intAttentionCases } from './cases/int-attention.ts';
import { intLinearCases } from './cases/int-linear.ts';
import {
  dequantizeCases,
  intEmbeddingCases,
  intL2NormalizeCases,
  intLayerNormCases,
  intPoolCases,
  requantizeCases,
} from './cases/int-rows.ts';
import { integerAttentionCases } from './cases/integer-attention.ts';
import { linearCases, quantizeRowsCases } from './cases/linear.ts';
import { linearAttentionCases } from './cases/linear-attention.ts';
import { givenRangeCases, lowBitCases, lowBitEmbeddingCases, quantizeBinaryCases } from './cases/low-bit.ts';
import { projectRowsCases } from './cases/project-rows.ts';
import { mergeAttentionCases, residueCases } from './cases/residue.ts';
import { rotaryCases } from './cases/rotary.ts';
import { rowAttentionCases } from './cases/row-attention.ts';
import { activationCases, l2NormalizeCases, layerNormCases, softmaxCases } from './cases/rows.ts';
import { scaledLinearCases, scaledRowsCases } from './cases/scaled-input.ts';
import { scoredAttentionCases } from './cases/scored-attention.ts';
import { spikingAttentionCases } from './cases/spiking-attention.ts';
import { storedAttentionCases } from './cases/stored-attention.ts';

export { type BuiltCase, buildCase, type ConformanceCase } from './case.ts';

/** What every backend must get right, each op within its own budget. */
export const CASES: readonly ConformanceCase[] = [
  ...activationCases,
  ...attentionCases,
  ...dynamicAttentionCases,
  ...embeddingCases,
  ...lowBitEmbeddingCases,
  ...fastWeightsCases,
  ...dequantizeCases,
  ...intAttentionCases,
  ...intEmbeddingCases,
  ...intL2NormalizeCases,
  ...intLayerNormCases,
  ...intLinearCases,
  ...intPoolCases,
  ...integerAttentionCases,
  ...requantizeCases,
  ...l2NormalizeCases,
  ...layerNormCases,
  ...linearAttentionCases,
  ...linearCases,
  ...lowBitCases,
  ...scaledLinearCases,
  ...mergeAttentionCases,
  ...poolCases,
  ...projectRowsCases,
  ...quantizeBinaryCases,
  ...quantizeRowsCases,
  ...givenRangeCases,
  ...scaledRowsCases,
  ...rotaryCases,
  ...scoredAttentionCases,
  ...residueCases,
  ...rowAttentionCases,
  ...selectRowsCases,
  ...softmaxCases,
  ...spikingAttentionCases,
  ...storedAttentionCases,
];
