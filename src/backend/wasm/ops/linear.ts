import type { Activation } from '../../../program/ops/activation.ts';
import { type LinearNode, padHead } from '../../../program/ops/linear.ts';
import { elements } from '../../../tensor/codec.ts';
import { expectServed, servesProduct } from '../codecs.ts';
import { gemmKernel } from '../kernels/gemm.ts';
import { float32Product } from '../kernels/gemm-float32.ts';
import { int8Product } from '../kernels/gemm-int8.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { OpLowering } from '../lowering.ts';
import { linearId } from '../weights.ts';

/** Cache that a block of rows of x may take in a product, in bytes. */
const ROW_BLOCK_BYTES = 192 * 1024;

const keyOf = ({ attributes: { quantized, activation } }: LinearNode): string =>
  `gemm:${quantized ? 'int8' : 'float32'}:${activation}`;

export const linearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels: {
    gemm: (variant) => {
      const [codec, activation] = variant.split(':');
      return gemmKernel(codec === 'int8' ? int8Product : float32Product, activation as Activation) as Kernel;
    },
  },
  keys(node) {
    expectServed(node.parameters, servesProduct);
    return [keyOf(node)];
  },
  steps(node, { at, shape, step, first, count, features, weights }) {
    const { quantized, residual, heads } = node.attributes;
    const packed = weights.linears.get(linearId(node))!;
    const [y] = node.outputs;
    const lda = quantized ? packed.K * (features.dot === 'i16' ? 2 : 1) : packed.K * 4;
    const ldc = shape(y).at(-1)! * 4;
    const allRows = elements(shape(node.inputs[0])) / shape(node.inputs[0]).at(-1)!;
    const panelsPerHead = heads ? padHead(heads.size) / features.panel : packed.panels;
    const rowsPerBlock = Math.min(count, Math.max(24, Math.floor(ROW_BLOCK_BYTES / lda / 24) * 24));
    const panelsPerUnit = Math.max(1, Math.ceil(packed.panels / 8));
    const unitsPerBlock = Math.ceil(packed.panels / panelsPerUnit);
    const last = node.inputs.at(-1)!;
    const fields = {
      a: at(node.inputs[0], first, lda),
      rowScales: quantized ? at(node.inputs[1], first, 8) : 0,
      w: packed.w,
      scales: packed.scales,
      corrections: packed.corrections,
      bias: packed.bias,
      c: at(y, first, ldc),
      residual: residual ? at(last, first, ldc) : 0,
      M: count,
      K: packed.K,
      lda,
      ldc,
      panels: packed.panels,
      panelBytes: packed.panelBytes,
      scaleStep: features.panel * 4,
      group: lda,
      lastColumns: packed.columns - (packed.panels - 1) * features.panel,
      panelsPerHead,
      headBytes: allRows * ldc,
      rowsPerBlock,
      panelsPerUnit,
      unitsPerBlock,
    };
    return [step(keyOf(node), fields, Math.ceil(count / rowsPerBlock) * unitsPerBlock, 1)];
  },
};
