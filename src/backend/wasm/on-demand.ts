import type { OpLowering } from './lowering.ts';

/** Lowerings of the ops that few models use: a page downloads one when a model asks for it. */
export const ON_DEMAND: Readonly<Record<string, () => Promise<OpLowering>>> = {
  rowAttention: async () => (await import('./ops/row-attention.ts')).rowAttentionLowering,
  dequantize: async () => (await import('./ops/int-rows.ts')).dequantizeLowering,
  dynamicAttention: async () => (await import('./ops/dynamic-attention.ts')).dynamicAttentionLowering,
  fastWeights: async () => (await import('./ops/fast-weights.ts')).fastWeightsLowering,
  groupByResidue: async () => (await import('./ops/residue.ts')).groupByResidueLowering,
  intAttention: async () => (await import('./ops/int-attention.ts')).intAttentionLowering,
  intEmbedding: async () => (await import('./ops/int-rows.ts')).intEmbeddingLowering,
  intL2Normalize: async () => (await import('./ops/int-rows.ts')).intL2NormalizeLowering,
  intLayerNorm: async () => (await import('./ops/int-rows.ts')).intLayerNormLowering,
  intLinear: async () => (await import('./ops/int-linear.ts')).intLinearLowering,
  intPool: async () => (await import('./ops/int-rows.ts')).intPoolLowering,
  integerAttention: async () => (await import('./ops/integer-attention.ts')).integerAttentionLowering,
  linearAttention: async () => (await import('./ops/linear-attention.ts')).linearAttentionLowering,
  lowBitLinear: async () => (await import('./ops/low-bit-linear.ts')).lowBitLinearLowering,
  mergeAttention: async () => (await import('./ops/merge-attention.ts')).mergeAttentionLowering,
  projectRows: async () => (await import('./ops/project-rows.ts')).projectRowsLowering,
  quantizeBinary: async () => (await import('./ops/quantize-binary.ts')).quantizeBinaryLowering,
  requantize: async () => (await import('./ops/int-rows.ts')).requantizeLowering,
  rotary: async () => (await import('./ops/rotary.ts')).rotaryLowering,
  scoredAttention: async () => (await import('./ops/scored-attention.ts')).scoredAttentionLowering,
  selectBlocks: async () => (await import('./ops/dynamic-attention.ts')).selectBlocksLowering,
  spikingAttention: async () => (await import('./ops/spiking-attention.ts')).spikingAttentionLowering,
  storedAttention: async () => (await import('./ops/stored-attention.ts')).storedAttentionLowering,
  ungroupByResidue: async () => (await import('./ops/residue.ts')).ungroupByResidueLowering,
};
