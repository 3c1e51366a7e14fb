import type { MaskExpression } from '../program/mask/expression.ts';
import { attention, stacked } from '../program/ops/attention.ts';
import { rotary } from '../program/ops/rotary.ts';
import { scoredAttention } from '../program/ops/scored-attention.ts';
import type { Value } from '../program/program.ts';
import { add, alibi, type ScoreExpression, score, softcap, table } from '../program/score/expression.ts';
import {
  type AttentionContext,
  type InitialiseContext,
  type Initialised,
  type LayerShape,
  scaleOf,
} from './mechanism.ts';
import type { OptionSpecs, OptionsOf } from './options.ts';

/** Options that every softmax over pairs has, whatever its mask. */
export const pairOptions = {
  softcap: {
    type: 'number',
    least: 0,
    most: 1e6,
    default: 0,
    what: 'scores s become cap · tanh(s / cap); 0 for none',
  },
  position: {
    type: 'choice',
    choices: ['none', 'alibi', 'relative', 'rotary'],
    default: 'none',
    what: 'what attention knows of the distance between tokens',
  },
  relativeDistance: {
    type: 'integer',
    least: 1,
    most: 100_000,
    default: 128,
    what: 'distance from which relative biases are all the same',
  },
  rotaryBase: { type: 'number', least: 1, most: 1e9, default: 10_000, what: 'base of the rotary angles' },
  rotaryLayout: {
    type: 'choice',
    choices: ['halves', 'pairs'],
    default: 'halves',
    what: 'columns that turn together: i and i + D/2, or neighbours',
  },
} as const satisfies OptionSpecs;
export type PairOptions = OptionsOf<typeof pairOptions>;

/** Weight of relative biases, `[H, 2R + 1]`: one for each head and distance k − q from −R to R. */
const RELATIVE = 'relative';

/** What softmax sees of a score: the softcap first, then the bias of the distance. Null: the score as it is. */
function scoreOf({ softcap: cap, position }: PairOptions): ScoreExpression | null {
  const capped = cap > 0 ? softcap(cap) : score;
  if (position === 'alibi') return add(capped, alibi);
  if (position === 'relative') return add(capped, table);
  return cap > 0 ? capped : null;
}

/**
 * Softmax attention over the pairs that a mask keeps; null keeps all. Gives `[B, N, H·D]`. Positions: ALiBi (Press et
 * al. 2022), learned biases by clipped distance (Shaw et al. 2018; scalars as in T5), rotary (Su et al. 2021).
 *
 * @param keyHeads heads of keys and values, a divisor of the layer's heads
 */
export function attendPairs(
  { t, layer, lengths, project, parameter }: AttentionContext,
  mask: MaskExpression | null,
  options: PairOptions,
  keyHeads?: number,
): Value {
  const { heads, headSize } = layer;
  const qkv = project(['query', 'key', 'value'], keyHeads); // [H + 2 · keyHeads, B, N, D′]
  const common = { heads, keyHeads, headSize, scale: scaleOf(layer), mask };
  const plain = { ...stacked(qkv, heads, keyHeads), lengths };
  const sources = options.position === 'rotary' ? { ...plain, ...turned() } : plain;
  const modified = scoreOf(options);
  if (!modified) return attention(t, sources, common)[0];
  const biases =
    options.position === 'relative'
      ? parameter(RELATIVE, [heads, 2 * options.relativeDistance + 1])
      : undefined;
  return scoredAttention(t, sources, { ...common, score: modified, table: biases })[0];

  function turned() {
    const value = rotary(t, qkv, {
      count: heads + (keyHeads ?? heads),
      size: headSize,
      base: options.rotaryBase,
      layout: options.rotaryLayout,
    }); // [H + keyHeads, B, N, D′]
    return { queries: { value, from: 0 }, keys: { value, from: heads } };
  }
}

/** Weights that the options ask for: relative biases of 0, which leave the dense model as it is until it is trained. */
export async function initialisePairs(
  { layer }: Pick<InitialiseContext, 'layer'>,
  { position, relativeDistance }: PairOptions,
): Promise<Initialised> {
  if (position !== 'relative') return new Map();
  const shape = [layer.heads, 2 * relativeDistance + 1];
  return new Map([[RELATIVE, { shape, data: new Float32Array(shape[0] * shape[1]) }]]);
}

/** Why a layer cannot have these options; null when it can. */
export function refusePairs({ headSize }: LayerShape, { position }: PairOptions): string | null {
  return position === 'rotary' && headSize % 2 === 1
    ? `rotary positions turn pairs of columns, and its heads have ${headSize}. Choose another position.`
    : null;
}
