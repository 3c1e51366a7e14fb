import { dim, equalShapes, formatShape } from '../../tensor/dim.ts';
import { clamp, multiplyShift } from '../integer/dyadic.ts';
import { type GeluConstants, integerGelu } from '../integer/gelu.ts';
import { expectCodec, type OpDefinition, shapeError } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

/** What becomes of the sums of an integer product. */
export type IntOutput =
  /** int8 codes, none below `low`: −128, or the zero point itself, which is ReLU. */
  | { readonly kind: 'codes'; readonly zeroPoint: number; readonly low: number }
  /** int32, clamped to ±`limit`. */
  | { readonly kind: 'sum'; readonly limit: number };

export interface IntLinearAttributes {
  /** Bits that the columns' multipliers stand behind the point. */
  readonly shift: number;
  /** i-GELU between the product and its codes: its constants, and the factor to the codes' scale. */
  readonly gelu: (GeluConstants & { readonly multiplier: number; readonly shift: number }) | null;
  /** Factor of what is added, and its zero point where it is codes. */
  readonly residual: {
    readonly multiplier: number;
    readonly shift: number;
    readonly zeroPoint: number;
  } | null;
  readonly output: IntOutput;
}
export type IntLinearNode = Node<'intLinear', IntLinearAttributes>;

export interface IntLinearOptions extends Omit<IntLinearAttributes, 'gelu' | 'residual'> {
  readonly gelu?: IntLinearAttributes['gelu'];
  readonly residual?: NonNullable<IntLinearAttributes['residual']> & { readonly value: Value };
}

/** Weights of one integer product: int8 `[C, K]`, int32 `[C]` and int32 `[C]`. */
export interface IntLinearParameters {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly multiplier: Parameter;
}

/** Most columns of x: 2^8 · 2^7 · 2^15 leaves room for a bias below 2^30. */
export const MOST_DEPTH = 2 ** 15;

/**
 * The product of int8 codes `[…, K]` and an int8 matrix `[C, K]`, in int32 and requantised by a dyadic factor for each
 * column (Jacob et al. 2018, section 2.2; Kim et al. 2021, section 3.2): with `a = Σ x·w + bias`, exact in 32 bits,
 * and `y = ⌊a · multiplier / 2^shift⌉`,
 * - `codes`: clamp(y + zeroPoint), or clamp(⌊i-GELU(y) · multiplier′ / 2^shift′⌉ + zeroPoint) with `gelu`;
 * - `sum`: y, plus ⌊(residual − zeroPoint) · multiplier″ / 2^shift″⌉ where there is a residual.
 *
 * The zero point of x is part of the bias, which whoever makes the weights has seen to: |a| < 2^31 and |y| < 2^31.
 */
export function intLinear(
  t: Tracer,
  x: Value,
  { weight, bias, multiplier }: IntLinearParameters,
  { shift, gelu = null, residual, output }: IntLinearOptions,
): Value {
  const K = x.shape.at(-1)!;
  expectCodec('intLinear', weight, 'int8');
  for (const p of [bias, multiplier]) expectCodec('intLinear', p, 'int32');
  const [C] = weight.shape;
  if (x.dtype !== 'int8') throw shapeError('intLinear', 'input of another type', 'int8 codes', x.dtype);
  if (
    weight.shape.length !== 2 ||
    formatShape([K]) !== formatShape([weight.shape[1]]) ||
    weight.shape[1] > MOST_DEPTH
  )
    throw shapeError(
      'intLinear',
      `weight ${weight.name} does not fit its input`,
      `[C, ${formatShape([K]).slice(1, -1)}], at most ${MOST_DEPTH} columns`,
      formatShape(weight.shape),
    );
  for (const p of [bias, multiplier])
    if (p.shape.length !== 1 || p.shape[0] !== C)
      throw shapeError('intLinear', `${p.name} does not fit its weight`, `[${C}]`, formatShape(p.shape));
  const shape = [...x.shape.slice(0, -1), dim(C)];
  const added = residual?.value;
  if (added && (output.kind !== 'sum' || added.dtype === 'float32' || !equalShapes(added.shape, shape)))
    throw shapeError(
      'intLinear',
      'residual that cannot be added',
      `integers ${formatShape(shape)} to a sum`,
      `${added.dtype} ${formatShape(added.shape)} to ${output.kind}`,
    );
  const { value: _, ...factor } = residual ?? {};
  return t.emit('intLinear', {
    inputs: added ? [x, added] : [x],
    parameters: [weight, bias, multiplier],
    outputs: [['y', output.kind === 'codes' ? 'int8' : 'int32', shape]],
    attributes: {
      shift,
      gelu,
      residual: residual ? (factor as IntLinearAttributes['residual']) : null,
      output,
    } satisfies IntLinearAttributes,
    rowWise: true,
  })[0];
}

export const intLinearOp: OpDefinition<IntLinearNode> = {
  kind: 'intLinear',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: ({ parameters: [weight] }, { inputs }) =>
    inputs[0].slice(0, -1).reduce((a, b) => a * b, 1) * weight.shape[0] * weight.shape[1],
  reference({ attributes: { shift, gelu, residual, output } }, { inputs, parameters }) {
    const [{ data: w, shape }, { data: bias }, { data: multipliers }] = parameters;
    const [C, K] = shape;
    const x = inputs[0].data;
    const out = new Float64Array((x.length / K) * C);
    for (let i = 0; i < out.length; i++) {
      const [row, c] = [Math.floor(i / C) * K, i % C];
      let sum = bias[c];
      for (let k = 0; k < K; k++) sum += x[row + k] * w[c * K + k];
      let y = multiplyShift(sum, multipliers[c], shift);
      if (gelu) y = multiplyShift(integerGelu(y, gelu), gelu.multiplier, gelu.shift);
      if (residual)
        y += multiplyShift(inputs[1].data[i] - residual.zeroPoint, residual.multiplier, residual.shift);
      out[i] =
        output.kind === 'codes'
          ? clamp(y + output.zeroPoint, output.low, 127)
          : clamp(y, -output.limit, output.limit);
    }
    return [out];
  },
};
