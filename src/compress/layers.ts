import { z } from 'zod';
import { AttenuateError } from '../tensor/error.ts';

/** Which layers a step touches: all, a list of indices, every n-th from an offset, or all but those. */
export const layersSchema = z.union([
  z.literal('all'),
  z.array(z.int().min(0)).min(1),
  z.strictObject({
    every: z.int().min(1),
    offset: z.int().min(0).default(0),
    /** The others instead: `{every: 3, except: true}` leaves every third layer as it is. */
    except: z.boolean().default(false),
  }),
]);
export type LayerSelection = z.infer<typeof layersSchema>;

/** Indices that a selection names in a model of `count` layers. @throws `LAYER_MISSING` when it names none or one too high. */
export function selectLayers(step: string, selection: LayerSelection, count: number): ReadonlySet<number> {
  const all = Array.from({ length: count }, (_, i) => i);
  if (selection === 'all') return new Set(all);
  const chosen = Array.isArray(selection)
    ? selection
    : all.filter(
        (i) => (i >= selection.offset && (i - selection.offset) % selection.every === 0) !== selection.except,
      );
  const outside = chosen.find((i) => i >= count);
  if (chosen.length === 0 || outside !== undefined)
    throw new AttenuateError(
      'LAYER_MISSING',
      `[${step}] layers that the model lacks: expected indices 0 to ${count - 1}, got ${JSON.stringify(selection)}. Change "layers".`,
      { step, layers: selection, count },
    );
  return new Set(chosen);
}
