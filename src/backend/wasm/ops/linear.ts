import type { Activation } from '../../../program/ops/activation.ts';
import { type LinearNode, padHead } from '../../../program/ops/linear.ts';
import { elements } from '../../../tensor/codec.ts';
import { gemmKernel } from '../kernels/gemm.ts';
import { float32Product } from '../kernels/gemm-float32.ts';
import { int8Product } from '../kernels/gemm-int8.ts';
import type { ProductFamily } from '../kernels/gemm-tile.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { packFloat32Kernel, packInt8Kernel } from '../kernels/pack.ts';
import { type KernelKey, type Lowering, type OpLowering, only, type Step } from '../lowering.ts';
import { panelLayout } from '../panels.ts';
import { linearId, type PackedLinear } from '../weights.ts';

/** Cache that a block of rows of x may take in a product, in bytes. */
const ROW_BLOCK_BYTES = 192 * 1024;

/** The kernels that multiply a node's weights and lay them out; what they do does not depend on the panels' width. */
export function productKeys(node: LinearNode, keyOf: (family: string) => KernelKey): KernelKey[] {
  return node.parameters.slice(0, node.attributes.parts).flatMap((weight) => {
    const { family, packers } = panelLayout(weight, node.attributes, { panel: 8 });
    return [keyOf(family), ...Object.values(packers)];
  });
}

/** What every kernel of products reads of the part of a node that `packed` computes, and its units of work. */
export function productFields(node: LinearNode, packed: PackedLinear, lowering: Lowering) {
  const { at, shape, first, count } = lowering;
  const { residual, heads, quantized } = node.attributes;
  const [y] = node.outputs;
  const ldc = shape(y).at(-1)! * 4;
  const allRows = elements(shape(node.inputs[0])) / shape(node.inputs[0]).at(-1)!;
  const headBytes = allRows * ldc;
  const place = heads ? (packed.firstColumn / heads.padded) * headBytes : packed.firstColumn * 4;
  return {
    rowScales: quantized ? at(node.inputs[1], first, 8) : 0,
    w: packed.w,
    corrections: packed.corrections,
    bias: packed.bias,
    c: at(y, first, ldc) + place,
    residual: residual ? at(node.inputs.at(-1)!, first, ldc) + place : 0,
    M: count,
    ldc,
    panels: packed.panels,
    panelBytes: packed.panelBytes,
    headBytes,
  };
}

/** How rows and panels are cut into units of work. */
export function productUnits(count: number, panels: number, lda: number) {
  const rowsPerBlock = Math.min(count, Math.max(24, Math.floor(ROW_BLOCK_BYTES / lda / 24) * 24));
  const panelsPerUnit = Math.max(1, Math.ceil(panels / 8));
  const unitsPerBlock = Math.ceil(panels / panelsPerUnit);
  return {
    fields: { rowsPerBlock, panelsPerUnit, unitsPerBlock },
    units: Math.ceil(count / rowsPerBlock) * unitsPerBlock,
  };
}

const gemmKey =
  ({ attributes: { activation } }: LinearNode) =>
  (family: string): KernelKey =>
    `gemm:${activation}:${family}`;

/** One product by tiles: see `gemmKernel`. */
export function gemmStep(node: LinearNode, packed: PackedLinear, lowering: Lowering): Step {
  const { at, first, count, features, step } = lowering;
  const { heads, quantized } = node.attributes;
  const lda = packed.K * (quantized ? (features.dot === 'i16' ? 2 : 1) : 4);
  const { fields, units } = productUnits(count, packed.panels, lda);
  const all = {
    ...productFields(node, packed, lowering),
    ...fields,
    a: at(node.inputs[0], first, lda),
    K: packed.K,
    lda,
    scales: packed.group ? packed.w + packed.scalesAt : packed.scales,
    scaleStep: packed.group ? packed.panelBytes : features.panel * 4,
    group: (packed.group * lda) / packed.K,
    lastColumns: packed.columns - (packed.panels - 1) * features.panel,
    panelsPerHead: heads ? padHead(heads.size) / features.panel : packed.panels,
  };
  return step(gemmKey(node)(packed.family), all, units, 1);
}

/** The kernels of products by what stands behind an activation in their keys. */
export const gemmKernels = (familyOf: (text: string) => ProductFamily) => ({
  gemm: (variant: string) => {
    const colon = variant.indexOf(':');
    return gemmKernel(familyOf(variant.slice(colon + 1)), variant.slice(0, colon) as Activation) as Kernel;
  },
  packFloat32: only(packFloat32Kernel),
  packInt8: only(packInt8Kernel),
});

export const plainFamily = (text: string): ProductFamily => (text === 'int8' ? int8Product : float32Product);

/** Products of floats and of int8; `lowBitLinearLowering` takes its place where a model has others. */
export const linearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels: gemmKernels(plainFamily),
  keys: (node) => productKeys(node, gemmKey(node)),
  steps: (node, lowering) =>
    lowering.weights.linears.get(linearId(node))!.map((packed) => gemmStep(node, packed, lowering)),
};
