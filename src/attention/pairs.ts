import type { MaskExpression } from '../program/mask/expression.ts';
import { attention, stacked } from '../program/ops/attention.ts';
import type { Value } from '../program/program.ts';
import { type AttentionContext, type InitialiseContext, type LayerShape, scaleOf } from './mechanism.ts';
import type { OptionSpecs, OptionsOf } from './options.ts';

/** Options that every softmax over pairs has, whatever its mask. */
export const pairOptions = {
  precision: {
    type: 'choice',
    choices: ['float32', 'int8-scores', 'int8'],
    default: 'float32',
    what: 'products in integers: queries by keys, or weights by values too',
  },
  softcap: {
    type: 'number',
    least: 0,
    most: 1e6,
    default: 0,
    what: 'score s → cap · tanh(s / cap); 0: none',
  },
  position: {
    type: 'choice',
    choices: ['none', 'alibi', 'relative', 'rotary'],
    default: 'none',
    what: 'what scores know of distances',
  },
  relativeDistance: {
    type: 'integer',
    least: 1,
    most: 100_000,
    default: 128,
    what: 'distance from which relative biases are the same',
  },
  rotaryBase: { type: 'number', least: 1, most: 1e9, default: 10_000, what: 'base of rotary angles' },
  rotaryLayout: {
    type: 'choice',
    choices: ['halves', 'pairs'],
    default: 'halves',
    what: 'columns that turn together: i and i + D/2, or neighbours',
  },
} as const satisfies OptionSpecs;
export type PairOptions = OptionsOf<typeof pairOptions>;

let positions: typeof import('./positions.ts') | null = null;

const isPlain = ({ precision, softcap, position }: PairOptions): boolean =>
  precision === 'float32' && softcap === 0 && position === 'none';

/**
 * Softmax attention over the pairs that a mask keeps; null keeps all. Gives `[B, N, H·D]`. With a softcap,
 * positions or integers, `pairParts.prepare` has to come first.
 *
 * @param keyHeads heads of keys and values, a divisor of the layer's heads
 */
export function attendPairs(
  context: AttentionContext,
  mask: MaskExpression | null,
  options: PairOptions,
  keyHeads?: number,
): Value {
  const { t, layer, lengths, project } = context;
  const { heads, headSize } = layer;
  const qkv = project(['query', 'key', 'value'], keyHeads); // [H + 2 · keyHeads, B, N, D′]
  const sources = { ...stacked(qkv, heads, keyHeads), lengths };
  const common = { heads, keyHeads, headSize, scale: scaleOf(layer), mask };
  if (isPlain(options)) return attention(t, sources, common)[0];
  return positions!.attendScored(context, sources, common, options);
}

/** What a mechanism over pairs has beside its own parts: `...pairParts`. */
export const pairParts = {
  /** Loads what softcaps, positions and integers need: a page without them never downloads it. */
  async prepare(options: PairOptions) {
    if (!isPlain(options)) positions ??= await import('./positions.ts');
  },
  refuse({ headSize }: LayerShape, { precision, softcap, position }: PairOptions): string | null {
    if (position === 'rotary' && headSize % 2)
      return `rotary positions turn pairs of columns, and its heads have ${headSize}. Choose another position.`;
    if (precision !== 'float32' && (softcap > 0 || position === 'alibi' || position === 'relative'))
      return 'scores taken in integers pass through no expression. Choose precision float32, or position none or rotary and no softcap.';
    return null;
  },
  initialise: async (context: InitialiseContext, options: PairOptions) =>
    (await import('./positions.ts')).initialisePositions(context, options),
};
