import type { WeightStore } from '../../model/config.ts';
import { decode, type WeightSpec } from '../../tensor/codec.ts';

/** What a product of integers may have beside its weight, to say how its input becomes integers. */
const SUFFIXES = ['inputScale', 'inputRange', 'inputBinary'] as const;
type Suffix = (typeof SUFFIXES)[number];

/** Name of a companion of a product, by the name of its weight. */
export const companion = (weight: string, suffix: Suffix): string =>
  `${weight.replace(/\.weight$/, '')}.${suffix}`;

/** Names of those that a weight has. */
export const companionsOf = (specs: ReadonlyMap<string, WeightSpec>, weight: string): string[] =>
  weight.endsWith('.weight')
    ? SUFFIXES.map((suffix) => companion(weight, suffix)).filter((name) => specs.has(name))
    : [];

/** By what a product's input is multiplied before it meets the weight, column by column; null where by nothing. */
export async function inputScaleOf(weights: WeightStore, weight: string): Promise<Float32Array | null> {
  const name = companionsOf(weights.specs, weight).find((found) => found.endsWith('.inputScale'));
  return name ? decode(await weights.read(name)) : null;
}

/** A matrix's columns each multiplied by a number of its own; a copy. */
export function byColumns(values: Float32Array, factors: Float32Array): Float32Array {
  const out = values.slice();
  for (let from = 0; from < out.length; from += factors.length)
    for (let c = 0; c < factors.length; c++) out[from + c] *= factors[c];
  return out;
}
