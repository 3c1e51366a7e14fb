import { dim, evaluateDim } from '../../tensor/dim.ts';
import { roundEven } from '../../tensor/half.ts';
import { expectFloat, type OpDefinition } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type QuantizeRowsNode = Node<'quantizeRows', Record<string, never>>;

/** Columns of a quantised row: padded with the code 0 to a multiple of 16. */
export const quantizedPitch = (columns: number): number => (columns + 15) & ~15;

const memo = new WeakMap<Tracer, Map<string, readonly [Value, Value]>>();

/**
 * Affine quantisation of rows: `x ≈ scale · (code − zeroPoint)`, codes from 0 to `levels` − 1, range widened to
 * hold 0 (Jacob et al. 2018, section 2.1). x `[…, K]` gives codes `[…, pitch]` and, for each row,
 * `[scale, scale · zeroPoint]`. Quantising the same value twice gives the same node.
 * @param range `[low, high]` of the whole tensor, found beforehand: what lies outside is clipped. Without it each
 *   row is quantised by its own range
 */
export function quantizeRows(t: Tracer, x: Value, range?: Parameter): readonly [codes: Value, scales: Value] {
  const known = memo.get(t) ?? new Map<string, readonly [Value, Value]>();
  memo.set(t, known);
  const key = `${x.id} ${range?.name ?? ''}`;
  const before = known.get(key);
  if (before) return before;
  if (range) expectFloat('quantizeRows', range);
  const lead = x.shape.slice(0, -1);
  const pitch = quantizedPitch(evaluateDim(x.shape.at(-1)!, {}));
  const [codes, scales] = t.emit('quantizeRows', {
    inputs: [x],
    parameters: range ? [t.parameter(range.name, [2])] : [],
    outputs: [
      ['codes', 'quantized', [...lead, dim(pitch)]],
      ['scales', 'float32', [...lead, dim(2)]],
    ],
    attributes: {},
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
  reference(_node, { inputs, parameters, outputShapes, levels }) {
    const K = inputs[0].shape.at(-1)!;
    const pitch = outputShapes[0].at(-1)!;
    const M = inputs[0].data.length / K;
    const codes = new Float64Array(M * pitch);
    const scales = new Float64Array(M * 2);
    for (let m = 0; m < M; m++) {
      const row = inputs[0].data.subarray(m * K, (m + 1) * K);
      const { scale, inverse, zeroPoint } = rowQuantization(parameters[0]?.data ?? row, levels);
      for (let k = 0; k < K; k++)
        codes[m * pitch + k] = clamp(roundEven(Math.fround(row[k] * inverse) + zeroPoint), levels);
      scales.set([scale, Math.fround(scale * zeroPoint)], 2 * m);
    }
    return [codes, scales];
  },
};
