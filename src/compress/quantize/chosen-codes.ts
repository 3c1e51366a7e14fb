import { encodeCodes, groupSizeOf, type Weight, type WeightSpec } from '../../tensor/codec.ts';

/** What a method chose for a weight: a code for each element, and of each group the stored scale and zero point. */
export interface ChosenCodes {
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  readonly zeros: Uint8Array | undefined;
}

export const weightOf = (spec: WeightSpec, { codes, scales, zeros }: ChosenCodes): Weight =>
  encodeCodes(spec, codes, scales, zeros);

/** What the codes stand for, row-major. */
export function valuesOf(spec: WeightSpec, { codes, scales, zeros }: ChosenCodes): Float32Array {
  const size = groupSizeOf(spec);
  const out = new Float32Array(codes.length);
  for (let g = 0, i = 0; g < scales.length; g++)
    for (const end = i + size; i < end; i++) out[i] = (codes[i] - (zeros ? zeros[g] : 0)) * scales[g];
  return out;
}
