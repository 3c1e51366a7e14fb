/**
 * Canonical weight names. A linear layer `x` has `x.weight` `[out, in]` and `x.bias`; a norm `scale` and `bias`.
 */
export const names = {
  word: 'embedding.word',
  position: 'embedding.position',
  tokenType: 'embedding.tokenType',
  /** Only where the tables are narrower than the encoder. */
  projection: 'embedding.projection',
  embeddingNorm: 'embedding.norm',
  layer: (i: number) => ({
    attention: `layers.${i}.attention`,
    query: `layers.${i}.attention.query`,
    key: `layers.${i}.attention.key`,
    value: `layers.${i}.attention.value`,
    output: `layers.${i}.attention.output`,
    attentionNorm: `layers.${i}.attention.norm`,
    /** Only where a layer changes the width: x for the residual sum. */
    residual: `layers.${i}.residual`,
    up: `layers.${i}.feedForward.up`,
    down: `layers.${i}.feedForward.down`,
    feedForwardNorm: `layers.${i}.feedForward.norm`,
  }),
  head: {
    dense: 'head.dense',
    pooler: 'head.pooler',
    classifier: 'head.classifier',
    transform: 'head.transform',
    norm: 'head.norm',
    bias: 'head.bias',
  },
} as const;

/** Matrices that the quantiser may store in fewer bits: products and embedding tables, never norms and biases. */
export const isMatrix = (name: string): boolean => name.endsWith('.weight') || name === names.word;
