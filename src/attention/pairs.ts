import type { MaskExpression } from '../program/mask/expression.ts';
import { attention, stacked } from '../program/ops/attention.ts';
import type { Value } from '../program/program.ts';
import { type AttentionContext, scaleOf } from './mechanism.ts';
import type { OptionSpecs, OptionsOf } from './options.ts';

/** Options that every softmax over pairs has, whatever its mask. */
export const pairOptions = {} as const satisfies OptionSpecs;
export type PairOptions = OptionsOf<typeof pairOptions>;

/** Softmax attention over the pairs that a mask keeps; null keeps all. Gives `[B, N, H·D]`. */
export function attendPairs(
  { t, layer, lengths, project }: AttentionContext,
  mask: MaskExpression | null,
  _options: PairOptions,
): Value {
  const { heads, headSize } = layer;
  const qkv = project(['query', 'key', 'value']); // [3H, B, N, D′]
  return attention(
    t,
    { ...stacked(qkv, heads), lengths },
    { heads, headSize, scale: scaleOf(layer), mask },
  )[0];
}
