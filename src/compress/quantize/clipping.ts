import type { WeightSpec } from '../../tensor/codec.ts';
import type { Clipping } from './fit.ts';
import type { QuantizeOptions } from './options.ts';

/** How scales of a weight are chosen. Floats have none; a search finds nothing to speak of for int8. */
export function clippingOf({ codec }: WeightSpec, { clipping, ternary }: QuantizeOptions): Clipping {
  if (codec === 'ternary' && ternary) return ternary === 'twn' ? 'max' : ternary;
  if (codec === 'float16' || codec === 'bfloat16') return 'max';
  return clipping ?? (codec === 'int8' ? 'max' : 'mse');
}
