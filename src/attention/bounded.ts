import type { Parameter } from '../program/program.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { AttentionContext } from './mechanism.ts';

/**
 * A mechanism's weight that spans the positions of the model's longest sequence along `axis`.
 * @throws `ATTENTION_REFUSED` when it was made for another longest sequence; what `parameter` throws
 */
export function boundedParameter(
  { layer, parameter }: AttentionContext,
  kind: string,
  name: string,
  shape: readonly number[],
  axis: number,
): Parameter {
  try {
    return parameter(name, shape);
  } catch (error) {
    const stored = error instanceof AttenuateError && (error.fields.got as readonly number[] | undefined);
    if (!stored || stored.length !== shape.length || stored[axis] === shape[axis]) throw error;
    throw new AttenuateError(
      'ATTENTION_REFUSED',
      `[attention] ${kind} cannot serve layer ${layer.index}: its weights were made for at most ${stored[axis]} tokens, expected ${shape[axis]}. Keep to the model's own longest text (no tilePositions), or use a mechanism without such a bound: dense or local.`,
      { kind, layer: layer.index, stored: stored[axis], maxLength: shape[axis] },
    );
  }
}
