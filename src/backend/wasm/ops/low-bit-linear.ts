import type { Activation } from '../../../program/ops/activation.ts';
import { type LinearNode, padHead } from '../../../program/ops/linear.ts';
import type { ProductFamily } from '../kernels/gemm.ts';
import { type LowBitVariant, lowBitProduct } from '../kernels/gemm-low-bit.ts';
import { differences, gemmSignsKernel } from '../kernels/gemm-signs.ts';
import type { Features, Kernel } from '../kernels/kernel.ts';
import {
  packCodesKernel,
  packScalesKernel,
  packSignsKernel,
  packZerosKernel,
  type ScaleSlots,
} from '../kernels/pack-low-bit.ts';
import type { KernelKey, Lowering, OpLowering, Step } from '../lowering.ts';
import { linearId, type PackedLinear } from '../weights.ts';
import { gemmKernels, gemmStep, plainFamily, productFields, productKeys, productUnits } from './linear.ts';

const isSigns = (family: string): boolean => family.startsWith('signs:');

const keyOf =
  ({ attributes: { activation } }: LinearNode) =>
  (family: string): KernelKey =>
    isSigns(family) ? `signs:${activation}:${family.slice(6)}` : `gemm:${activation}:${family}`;

const variantOf = (bits: string, affine: string, half: string): LowBitVariant => ({
  bits: Number(bits) as LowBitVariant['bits'],
  affine: affine !== '',
  half: half !== '',
});

const slotsOf =
  (half: string, width: string) =>
  ({ panel }: Features): ScaleSlots => ({ half: half !== '', width: Number(width) || panel });

function familyOf(text: string): ProductFamily {
  const [family, bits, affine, half] = text.split(':');
  return family === 'lowBit'
    ? lowBitProduct(text.replaceAll(':', '_'), variantOf(bits, affine, half))
    : plainFamily(text);
}

/** Most bytes whose differing bits a byte can count. */
const BLOCK_BYTES = 31;

function signsStep(node: LinearNode, packed: PackedLinear, lowering: Lowering): Step {
  const { heads } = node.attributes;
  const lda = packed.K / 8;
  const { fields, units } = productUnits(lowering.count, packed.panels, lda);
  const whole = packed.group === packed.K;
  let block = packed.group / 8;
  if (whole) for (block = Math.min(BLOCK_BYTES, lda); lda % block; block--);
  const all = {
    ...productFields(node, packed, lowering),
    ...fields,
    a: lowering.at(node.inputs[0], lowering.first, lda),
    table: lowering.table('differences', differences),
    lda,
    block,
    scaleStep: whole ? 0 : (packed.zerosAt - packed.scalesAt) / (packed.K / packed.group),
    scalesAt: packed.scalesAt,
    columns: packed.columns,
    eightsPerHead: heads ? padHead(heads.size) / 8 : packed.panels * 4,
  };
  return lowering.step(keyOf(node)(packed.family), all, units, 1);
}

/** Products of every codec: floats and int8 as elsewhere, codes of 4, 2 and 1 bits, and bits by bits. */
export const lowBitLinearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels: {
    ...gemmKernels(familyOf),
    signs: (variant) => {
      const [activation, half] = variant.split(':');
      return gemmSignsKernel(half !== '', activation as Activation) as Kernel;
    },
    packCodes: (variant) => {
      const [bits, affine, half, offset] = variant.split(':');
      return packCodesKernel(variantOf(bits, affine, half), Number(offset)) as Kernel;
    },
    packScales: (variant) => {
      const [stored, affine, half, width] = variant.split(':');
      const slots = slotsOf(half, width);
      return packScalesKernel(stored as 'float16' | 'float32', affine !== '', slots) as Kernel;
    },
    packZeros: (variant) => {
      const [half, width] = variant.split(':');
      return packZerosKernel(slotsOf(half, width)) as Kernel;
    },
    packSigns: (variant) => {
      const [half, width] = variant.split(':');
      return packSignsKernel(slotsOf(half, width)) as Kernel;
    },
  },
  keys: (node) => productKeys(node, keyOf(node)),
  steps: (node, lowering) =>
    lowering.weights.linears
      .get(linearId(node))!
      .map((packed) => (isSigns(packed.family) ? signsStep : gemmStep)(node, packed, lowering)),
};
