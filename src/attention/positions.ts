import {
  type AttentionOptions,
  type AttentionSources,
  attention,
  type Heads,
} from '../program/ops/attention.ts';
import { integerAttention } from '../program/ops/integer-attention.ts';
import { rotary } from '../program/ops/rotary.ts';
import { scoredAttention } from '../program/ops/scored-attention.ts';
import type { Value } from '../program/program.ts';
import { add, alibi, type ScoreExpression, score, softcap, table } from '../program/score/expression.ts';
import type { AttentionContext, InitialiseContext, Initialised } from './mechanism.ts';
import type { PairOptions } from './pairs.ts';

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
 * Attention whose scores know the distance between tokens, or end at a cap: ALiBi (Press et al. 2022), learned biases
 * by clipped distance (Shaw et al. 2018; scalars, as in T5), rotary positions (Su et al. 2021), softcaps (Gemma Team
 * 2024); or whose products are in integers (Zhang et al. 2024, arXiv 2410.02367). Queries and keys stand at the front
 * of one product. Gives `[B, N, H·D]`.
 */
export function attendScored(
  { t, layer, parameter }: Pick<AttentionContext, 't' | 'layer' | 'parameter'>,
  plain: AttentionSources & { readonly queries: Heads; readonly keys: Heads },
  common: AttentionOptions,
  options: PairOptions,
): Value {
  const { heads, headSize } = layer;
  const { precision } = options;
  const sources = options.position === 'rotary' ? { ...plain, ...turned() } : plain;
  const modified = scoreOf(options);
  if (!modified)
    return precision === 'float32'
      ? attention(t, sources, common)[0]
      : integerAttention(t, sources, { ...common, precision });
  const shape = [heads, 2 * options.relativeDistance + 1];
  const biases = options.position === 'relative' ? parameter(RELATIVE, shape) : undefined;
  return scoredAttention(t, sources, { ...common, score: modified, table: biases })[0];

  function turned() {
    const value = rotary(t, plain.queries.value, {
      count: heads + (common.keyHeads ?? heads),
      size: headSize,
      base: options.rotaryBase,
      layout: options.rotaryLayout,
    }); // [H + keyHeads, B, N, D′]
    return { queries: { value, from: 0 }, keys: { value, from: heads } };
  }
}

/** Weights that the options ask for: relative biases of 0, which leave the dense model as it is until it is trained. */
export async function initialisePositions(
  { layer }: Pick<InitialiseContext, 'layer'>,
  { position, relativeDistance }: PairOptions,
): Promise<Initialised> {
  if (position !== 'relative') return new Map();
  const shape = [layer.heads, 2 * relativeDistance + 1];
  return new Map([[RELATIVE, { shape, data: new Float32Array(shape[0] * shape[1]) }]]);
}
