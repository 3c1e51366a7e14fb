import { AttenuateError } from '../../tensor/error.ts';
import type { LayerShape, Tensor } from '../mechanism.ts';

/**
 * Rows by head `[H·D, …]` → `[groups·D, …]`: each group of neighbouring heads becomes their mean.
 * @throws `ATTENTION_WEIGHT` for a tensor that does not hold the layer's own heads, as one that was grouped before
 */
export function meanHeads(
  { shape, data }: Tensor,
  { heads, headSize, index }: Pick<LayerShape, 'heads' | 'headSize' | 'index'>,
  groups: number,
  name: string,
): Tensor {
  if (shape[0] !== heads * headSize)
    throw new AttenuateError(
      'ATTENTION_WEIGHT',
      `[attention] ${name} of layer ${index} does not hold ${heads} heads: expected ${heads * headSize} rows, got ${shape[0]}. Start from a model whose heads are not grouped yet.`,
      { layer: index, name },
    );
  const each = heads / groups;
  const size = data.length / heads;
  const out = new Float32Array(groups * size);
  for (let i = 0; i < out.length; i++) {
    const from = Math.floor(i / size) * each * size + (i % size);
    let sum = 0;
    for (let h = 0; h < each; h++) sum += data[from + h * size];
    out[i] = sum / each;
  }
  return { shape: [groups * headSize, ...shape.slice(1)], data: out };
}
