import { names } from '../names.ts';

/** Names of an integer-only encoder's tensors, in `IntegerSpec.codes`. */
export const tensors = {
  /** The embedding, of 32 bits: the sum of its tables, or their projection where they are narrow. */
  embedding: 'embedding',
  /** The sum of narrow tables, of 32 bits, and what their projection is a product of. */
  tables: 'embedding.tables',
  narrow: 'embedding.input',
  layer(i: number) {
    const { query, key, value, attention, residual } = names.layer(i);
    const feedForward = `layers.${i}.feedForward`;
    return {
      /** What queries, keys and values are products of: the layer's input, or its first norm's output. */
      input: `${attention}.input`,
      query,
      key,
      value,
      context: `${attention}.context`,
      /** The attention's output plus the residual, of 32 bits. */
      sum: `${attention}.sum`,
      /** The layer's input, where the residual is a product of it. */
      residual: `${residual}.input`,
      middle: `${feedForward}.input`,
      /** What the activation gives. */
      inner: `${feedForward}.inner`,
      /** The feed-forward part's output plus the residual, of 32 bits. */
      output: `${feedForward}.sum`,
    };
  },
  /** What is pooled. */
  output: 'output',
} as const;

/** Names of the integers of a product, a norm or a table. */
export const multiplierOf = (name: string): string => `${name}.multiplier`;
export const integerBiasOf = (name: string): string => `${name}.integerBias`;
