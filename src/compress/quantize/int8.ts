import { z } from 'zod';
import { isMatrix, names } from '../../model/names.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { layersSchema, selectLayers } from '../layers.ts';
import type { StepDefinition } from '../step.ts';
import { roundedStore } from './rounded-store.ts';

const schema = z.strictObject({
  step: z.literal('quantize'),
  bits: z.literal(8),
  /** The word table too; it is most of a small model's bytes. */
  embeddings: z.boolean().default(true),
  head: z.boolean().default(true),
  layers: layersSchema.default('all'),
});

/**
 * Matrices as int8 with one symmetric scale per output channel: scale = max|w| / 127, code = round(w / scale).
 * Activations are quantised per row while the model runs, so no calibration data is needed. Norms, biases and
 * position tables stay as they are. Jacob et al., 2018 (arXiv:1712.05877).
 */
export const quantizeInt8: StepDefinition<z.infer<typeof schema>> = {
  step: 'quantize',
  variant: { option: 'bits', value: 8 },
  summary: 'int8 matrices, one scale per output channel; int8 activations, one scale per row',
  schema,
  apply(model, { embeddings, head, layers }) {
    const chosen = selectLayers('quantize', layers, model.config.layers.length);
    const wanted = (name: string) => {
      if (!isMatrix(name)) return false;
      if (name === names.word) return embeddings;
      const layer = /^layers\.(\d+)\./.exec(name);
      return layer ? chosen.has(Number(layer[1])) : head;
    };
    const { specs } = model.weights;
    const targets = [...specs.keys()].filter(wanted);
    const open = targets.filter((name) => specs.get(name)!.codec !== 'int8');
    if (open.length === 0)
      throw new AttenuateError(
        'QUANTIZE_NOTHING',
        `[quantize] nothing left to quantise: expected at least one float matrix, got ${targets.length} matrices that are all int8 already. Remove this step from the recipe.`,
        { matrices: targets.length },
      );
    const widths = new Map(open.map((name) => [name, { codec: 'int8' } as const]));
    return { ...model, weights: roundedStore(model.weights, widths) };
  },
};
