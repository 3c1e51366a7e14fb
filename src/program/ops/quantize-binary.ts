import { dim, evaluateDim } from '../../tensor/dim.ts';
import { expectFloat, type OpDefinition } from '../op.ts';
import type { Node, Parameter, Value } from '../program.ts';
import type { Tracer } from '../trace.ts';

export type QuantizeBinaryNode = Node<'quantizeBinary', Record<string, never>>;

/** Bytes of a row of bits, padded with zero bits to a multiple of 16. */
export const bitsPitch = (columns: number): number => ((columns + 127) >> 7) << 4;

/**
 * Elastic binarisation of activations, `x ≈ α · sign(x − β)` (Liu et al. 2022, BiT, section 3.2): x `[…, K]` gives
 * bits `[…, pitch]`, of which bit k mod 8 of byte ⌊k / 8⌋ is 1 where x ≥ β (as a binary weight has them), and for
 * each row `[α, 0]`, as `quantizeRows` gives a scale. @param range `[α, β]` of the whole tensor
 */
export function quantizeBinary(t: Tracer, x: Value, range: Parameter): readonly [bits: Value, scales: Value] {
  expectFloat('quantizeBinary', range);
  const lead = x.shape.slice(0, -1);
  const [bits, scales] = t.emit('quantizeBinary', {
    inputs: [x],
    parameters: [t.parameter(range.name, [2])],
    outputs: [
      ['bits', 'bits', [...lead, dim(bitsPitch(evaluateDim(x.shape.at(-1)!, {})))]],
      ['scales', 'float32', [...lead, dim(2)]],
    ],
    attributes: {},
    rowWise: true,
  });
  return [bits, scales];
}

export const quantizeBinaryOp: OpDefinition<QuantizeBinaryNode> = {
  kind: 'quantizeBinary',
  // A comparison of two float32 numbers has one answer.
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: (_node, { inputs }) => inputs[0].reduce((a, b) => a * b, 1),
  reference(_node, { inputs, parameters, outputShapes }) {
    const [alpha, beta] = parameters[0].data;
    const K = inputs[0].shape.at(-1)!;
    const pitch = outputShapes[0].at(-1)!;
    const M = inputs[0].data.length / K;
    const bits = new Float64Array(M * pitch);
    const scales = new Float64Array(M * 2);
    for (let m = 0; m < M; m++) {
      for (let k = 0; k < K; k++)
        if (inputs[0].data[m * K + k] >= beta) bits[m * pitch + (k >> 3)] += 1 << (k & 7);
      scales[2 * m] = alpha;
    }
    return [bits, scales];
  },
};
