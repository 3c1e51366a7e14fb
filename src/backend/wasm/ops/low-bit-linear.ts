import type { Activation } from '../../../program/ops/activation.ts';
import { type LinearNode, padHead } from '../../../program/ops/linear.ts';
import { quantizedPitch } from '../../../program/ops/quantize-rows.ts';
import { columnsOf } from '../../../tensor/codec.ts';
import { type HalfCodec, halvesProduct, packHalvesKernel } from '../kernels/gemm-halves.ts';
import { lowBitProduct } from '../kernels/gemm-low-bit.ts';
import { differences, gemmSignsKernel } from '../kernels/gemm-signs.ts';
import { type ProductFamily, RAGGED_TILE } from '../kernels/gemm-tile.ts';
import type { Features, Kernel } from '../kernels/kernel.ts';
import { factorOf, type LowBitVariant } from '../kernels/low-bit-codes.ts';
import {
  packCodesKernel,
  packScalesKernel,
  packSignsKernel,
  packZerosKernel,
  type ScaleSlots,
} from '../kernels/pack-low-bit.ts';
import { type KernelKey, type Lowering, type OpLowering, only, type Step } from '../lowering.ts';
import { SIGNS_WIDTH } from '../panels.ts';
import { linearId, type PackedLinear } from '../weights.ts';
import { gemmKernels, gemmStep, plainFamily, productFields, productKeys, productUnits } from './linear.ts';

const isSigns = (family: string): boolean => family.startsWith('signs:');

const keyOf =
  ({ attributes: { activation } }: LinearNode) =>
  (family: string): KernelKey =>
    isSigns(family) ? `signs:${activation}:${family}` : `gemm:${activation}:${family}`;

/** From `bits:affine:scales`, as `PanelLayout` has it. */
const variantOf = ([bits, affine, scales]: readonly string[]): LowBitVariant => ({
  bits: Number(bits) as LowBitVariant['bits'],
  affine: affine !== '',
  scales: scales as LowBitVariant['scales'],
});

const slotsOf =
  (variant: readonly string[]) =>
  ({ panel }: Features): ScaleSlots => {
    const half = variant[2] === 'half';
    return variant[0] === 'signs'
      ? { half, width: SIGNS_WIDTH, divisor: 1 }
      : { half, width: panel, divisor: half ? 1 : factorOf(variantOf(variant)) };
  };

function familyOf(text: string): ProductFamily {
  const [family, ...variant] = text.split(':');
  if (family === 'lowBit') return lowBitProduct(text.replaceAll(':', '_'), variantOf(variant));
  return isHalf(family) ? halvesProduct(family) : plainFamily(text);
}

const isHalf = (codec: string): codec is HalfCodec => codec === 'float16' || codec === 'bfloat16';

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

/** Products of every codec: float32 and int8 as elsewhere, floats of 16 bits, codes of 4, 2 and 1 bits, and bits by bits. */
export const lowBitLinearLowering: OpLowering<LinearNode> = {
  kind: 'linear',
  kernels: {
    ...gemmKernels(familyOf),
    signs: (text) => gemmSignsKernel(text.endsWith('half'), text.split(':')[0] as Activation) as Kernel,
    packCodes: (text) => {
      const [bits, affine, scales, offset] = text.split(':');
      return packCodesKernel(variantOf([bits, affine, scales]), Number(offset)) as Kernel;
    },
    packScales: (text) => {
      const variant = text.split(':');
      const stored = variant[3] as 'float16' | 'float32';
      return packScalesKernel(stored, variant[1] !== '', slotsOf(variant)) as Kernel;
    },
    packZeros: (variant) => packZerosKernel(slotsOf(variant.split(':'))) as Kernel,
    packHalves: only(packHalvesKernel),
    packSigns: (variant) => packSignsKernel(slotsOf(variant.split(':'))) as Kernel,
  },
  scratchBytes({ parameters, attributes: { parts } }, _shape, { panel }) {
    const columns = columnsOf(parameters[0].shape);
    const halves = parameters.slice(0, parts).some(({ codec }) => isHalf(codec));
    return RAGGED_TILE + (halves ? columns * 4 : quantizedPitch(columns)) * panel;
  },
  keys: (node) => productKeys(node, keyOf(node)),
  steps: (node, lowering) =>
    lowering.weights.linears
      .get(linearId(node))!
      .map((packed) => (isSigns(packed.family) ? signsStep : gemmStep)(node, packed, lowering)),
};
