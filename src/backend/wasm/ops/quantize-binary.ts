import type { QuantizeBinaryNode } from '../../../program/ops/quantize-binary.ts';
import { quantizeBinaryKernel } from '../kernels/quantize-binary.ts';
import { type OpLowering, only } from '../lowering.ts';

export const quantizeBinaryLowering: OpLowering<QuantizeBinaryNode> = {
  kind: 'quantizeBinary',
  kernels: { quantizeBinary: only(quantizeBinaryKernel) },
  keys: () => ['quantizeBinary'],
  steps(
    { inputs: [x], outputs: [bits, scales], parameters: [range] },
    { at, shape, step, first, count, weight },
  ) {
    const columns = shape(x).at(-1)!;
    const pitch = shape(bits).at(-1)!;
    const fields = {
      x: at(x, first, columns * 4),
      bits: at(bits, first, pitch),
      scales: at(scales, first, 8),
      range: weight(range),
      columns,
      pitch,
    };
    return [step('quantizeBinary', fields, count)];
  },
};
