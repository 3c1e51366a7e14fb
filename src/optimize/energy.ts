import { programEnergy } from '../device/energy/program.ts';
import type { Figure } from '../device/figure.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';

/** Estimated energy of one text of `length` tokens, from the traced Program's work. */
export const modelEnergy = async (
  model: Pick<Model, 'config' | 'weights'>,
  length: number,
): Promise<Figure> =>
  programEnergy(await traceEncoder(model.config, model.weights.specs), { B: 1, N: length, P: 1 });
