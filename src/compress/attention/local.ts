import { z } from 'zod';
import { layersSchema, selectLayers } from '../layers.ts';
import type { StepDefinition } from '../step.ts';

const schema = z.strictObject({
  step: z.literal('attention'),
  kind: z.literal('local'),
  left: z.int().min(0),
  right: z.int().min(0),
  layers: layersSchema.default('all'),
});

/**
 * Each query sees only the keys from `left` before it to `right` after it: work grows with n·(left + right + 1)
 * instead of n². Texts shorter than the window are computed as before. Weights are untouched.
 * Beltagy, Peters and Cohan, Longformer, 2020 (arXiv:2004.05150).
 */
export const localAttention: StepDefinition<z.infer<typeof schema>> = {
  step: 'attention',
  variant: { option: 'kind', value: 'local' },
  summary: 'sliding-window attention: keys from q − left to q + right',
  schema,
  apply(model, { left, right, layers }) {
    const chosen = selectLayers('attention', layers, model.config.layers.length);
    return {
      ...model,
      config: {
        ...model.config,
        layers: model.config.layers.map((layer, i) =>
          chosen.has(i) ? { ...layer, attention: { kind: 'local' as const, left, right } } : layer,
        ),
      },
    };
  },
};
