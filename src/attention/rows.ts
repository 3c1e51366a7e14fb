import { stacked } from '../program/ops/attention.ts';
import { type Normalizer, rowAttention } from '../program/ops/row-attention.ts';
import type { Value } from '../program/program.ts';
import { type AttentionContext, scaleOf } from './mechanism.ts';
import type { OptionSpecs, OptionsOf } from './options.ts';
import { local } from './pattern/window.ts';

/** Options of the mechanisms whose weights are exactly 0 for most keys. */
export const rowOptions = {
  window: {
    type: 'integer',
    least: -1,
    most: 10_000_000,
    default: -1,
    what: 'keys before and after the query that may be seen; −1 for all',
  },
} as const satisfies OptionSpecs;

/** Attention whose rows are normalised by `normalizer`. Gives `[B, N, H·D]`. */
export function attendRows(
  { t, layer, lengths, project }: AttentionContext,
  normalizer: Normalizer,
  { window }: OptionsOf<typeof rowOptions>,
): Value {
  const { heads, headSize } = layer;
  const sources = { ...stacked(project(['query', 'key', 'value']), heads), lengths };
  const mask = window >= 0 ? local(window, window) : null;
  return rowAttention(t, sources, { heads, headSize, scale: scaleOf(layer), mask }, normalizer)[0];
}
