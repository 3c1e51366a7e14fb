import { dim, evaluateDim } from '../../tensor/dim.ts';
import { roundEven } from '../../tensor/half.ts';
import { expectFloat, type OpDefinition } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export interface QuantizeRowsAttributes {
  /** Whether the range is given: the first parameter. */
  readonly range: boolean;
  /** Whether columns are scaled first: the last parameter. */
  readonly scaled: boolean;
}
export type QuantizeRowsNode = Node<'quantizeRows', QuantizeRowsAttributes>;

/** Columns of a quantised row: padded with the code 0 to a multiple of 16. */
export const quantizedPitch = (columns: number): number => (columns + 15) & ~15;

const memo = new WeakMap<Tracer, Map<string, readonly [Value, Value]>>();

/**
 * Affine quantisation of rows: `x ≈ scale · (code − zeroPoint)`, codes from 0 to `levels` − 1, range widened to
 * hold 0 (Jacob et al. 2018, section 2.1). x `[…, K]` gives codes `[…, pitch]` and, for each row,
 * `[scale, scale · zeroPoint]`. Quantising the same value twice gives the same node.
 * @param range `[low, high]` of the whole tensor, found beforehand: what lies outside is clipped. Without it each
 *   row is quantised by its own range
 * @param scale `[K]`, by which columns are multiplied before anything else, so that those of small values keep their
 *   share of the codes (Xiao et al. 2023, section 4); the weights that meet the codes hold its inverse
 */
export function quantizeRows(
  t: Tracer,
  x: Value,
  range?: Parameter,
  scale?: Parameter,
): readonly [codes: Value, scales: Value] {
  const known = memo.get(t) ?? new Map<string, readonly [Value, Value]>();
  memo.set(t, known);
  const key = `${x.id} ${range?.name ?? ''} ${scale?.name ?? ''}`;
  const before = known.get(key);
  if (before) return before;
  const K = evaluateDim(x.shape.at(-1)!, {});
  const parameters = [
    ...(range ? [t.parameter(range.name, [2])] : []),
    ...(scale ? [t.parameter(scale.name, [K])] : []),
  ];
  for (const parameter of parameters) expectFloat('quantizeRows', parameter);
  const lead = x.shape.slice(0, -1);
  const pitch = quantizedPitch(K);
  const [codes, scales] = t.emit('quantizeRows', {
    inputs: [x],
    parameters,
    outputs: [
      ['codes', 'quantized', [...lead, dim(pitch)]],
      ['scales', 'float32', [...lead, dim(2)]],
    ],
    attributes: { range: !!range, scaled: !!scale } satisfies QuantizeRowsAttributes,
    rowWise: true,
  });
  known.set(key, [codes, scales]);
  return [codes, scales];
}

/**
 * Scale and zero point of a row, or of a range, in the arithmetic of the kernels: float32, the scale's reciprocal rounded, halves
 * to even. A row that kernel and reference rounded differently would be another row to all that follows.
 */
export function rowQuantization(
  row: Float64Array,
  levels: number,
): { scale: number; inverse: number; zeroPoint: number } {
  let low = 0;
  let high = 0;
  for (const x of row) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const scale = Math.max(Math.fround(Math.fround(high - low) / (levels - 1)), Math.fround(1e-30));
  const inverse = Math.fround(1 / scale);
  return { scale, inverse, zeroPoint: clamp(roundEven(Math.fround(-low * inverse)), levels) };
}

const clamp = (code: number, levels: number): number => Math.max(0, Math.min(levels - 1, code));

export const quantizeRowsOp: OpDefinition<QuantizeRowsNode> = {
  kind: 'quantizeRows',
  // A code may differ by one where x falls between two codes; scales agree to float32 rounding.
  budget: { absolute: 1.0001, relative: 1e-6 },
  multiplyAdds: (_node, { inputs }) => inputs[0].reduce((a, b) => a * b, 1) * 2,
  reference({ attributes }, { inputs, parameters, outputShapes, levels }) {
    const range = attributes.range ? parameters[0].data : null;
    const by = attributes.scaled ? parameters.at(-1)!.data : null;
    const K = inputs[0].shape.at(-1)!;
    const pitch = outputShapes[0].at(-1)!;
    const M = inputs[0].data.length / K;
    const codes = new Float64Array(M * pitch);
    const scales = new Float64Array(M * 2);
    for (let m = 0; m < M; m++) {
      const given = inputs[0].data.subarray(m * K, (m + 1) * K);
      const row = by ? given.map((x, k) => Math.fround(x * by[k])) : given;
      const { scale, inverse, zeroPoint } = rowQuantization(range ?? row, levels);
      for (let k = 0; k < K; k++)
        codes[m * pitch + k] = clamp(roundEven(Math.fround(row[k] * inverse) + zeroPoint), levels);
      scales.set([scale, Math.fround(scale * zeroPoint)], 2 * m);
    }
    return [codes, scales];
  },
};
