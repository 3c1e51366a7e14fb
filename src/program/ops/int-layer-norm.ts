import { formatShape } from '../../tensor/dim.ts';
import { clamp, multiplyShift } from '../integer/dyadic.ts';
import { rowNormalizer, sumOfSquares } from '../integer/sqrt.ts';
import { expectCodec, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface IntLayerNormAttributes {
  /** ε · C at the scale of x squared. */
  readonly epsilon: number;
  /** Bits that the columns' multipliers stand behind the point. */
  readonly shift: number;
  readonly zeroPoint: number;
}
export type IntLayerNormNode = Node<'intLayerNorm', IntLayerNormAttributes>;

/** Bits behind the point of what γ gives and β is added to, before it is rounded to a code. */
export const NORM_FRACTION = 8;

/** Largest magnitude of an element of a row of C: the row's sum then stays within 30 bits. */
export const normLimit = (columns: number): number => Math.floor(2 ** 30 / columns);

/**
 * LayerNorm in integers (Kim et al. 2021, section 3.6): int32 rows `[…, C]`, |x| ≤ 2^30 / C, to int8 codes.
 *
 *     mean = ⌊Σx / C + ½⌋            30 bits and sign
 *     d    = x − mean                 |d| ≤ 2^31 / C
 *     V    = Σ d² + ε                 below 2^62, in 64 bits
 *     n    = d · 2^20 / √V            `rowNormalizer`: i-sqrt in 32 bits; |n| < 2^21
 *     code = clamp(⌊(⌊n · multiplier / 2^shift⌉ + bias) / 2^8 + ½⌋ + zeroPoint)
 *
 * The columns' multiplier is γ · √C / scale · 2^8 / 2^20 and their bias β / scale · 2^8, both int32 `[C]`. A row whose
 * elements are all equal gives its bias.
 */
export function intLayerNorm(
  t: Tracer,
  x: Value,
  multiplier: Parameter,
  bias: Parameter,
  attributes: IntLayerNormAttributes,
): Value {
  const C = x.shape.at(-1)!;
  if (x.dtype !== 'int32') throw shapeError('intLayerNorm', 'input of another type', 'int32 rows', x.dtype);
  for (const p of [multiplier, bias]) {
    expectCodec('intLayerNorm', p, 'int32');
    if (formatShape(p.shape) !== formatShape([C]))
      throw shapeError(
        'intLayerNorm',
        `${p.name} does not fit its input`,
        formatShape([C]),
        formatShape(p.shape),
      );
  }
  return t.emit('intLayerNorm', {
    inputs: [x],
    parameters: [multiplier, bias],
    outputs: [['y', 'int8', x.shape]],
    attributes,
    rowWise: true,
  })[0];
}

export const intLayerNormOp: OpDefinition<IntLayerNormNode> = {
  kind: 'intLayerNorm',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { outputs }) => outputs[0].reduce((a, b) => a * b, 1) * 4,
  reference({ attributes: { epsilon, shift, zeroPoint } }, { inputs, parameters }) {
    const [{ data: multipliers }, { data: bias }] = parameters;
    const C = inputs[0].shape.at(-1)!;
    const out = new Float64Array(inputs[0].data.length);
    for (let at = 0; at < out.length; at += C) {
      const row = inputs[0].data.subarray(at, at + C);
      const mean = Math.floor((row.reduce((a, x) => a + x, 0) + (C >> 1)) / C);
      const centred = row.map((x) => x - mean);
      const { reciprocal, shift: down } = rowNormalizer(sumOfSquares(centred) + BigInt(epsilon));
      for (let c = 0; c < C; c++) {
        const n = multiplyShift(centred[c], reciprocal, down);
        const y = multiplyShift(n, multipliers[c], shift) + bias[c];
        const code = Math.floor((y + 2 ** (NORM_FRACTION - 1)) / 2 ** NORM_FRACTION);
        out[at + c] = clamp(code + zeroPoint, -128, 127);
      }
    }
    return [out];
  },
};
