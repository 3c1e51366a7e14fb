import type { LinearNode } from '../../program/ops/linear.ts';
import { bitsPitch } from '../../program/ops/quantize-binary.ts';
import { quantizedPitch } from '../../program/ops/quantize-rows.ts';
import type { Parameter } from '../../program/program.ts';
import { codeFormat, columnsOf, groupSizeOf, isAffine, isFloat, scaleTypeOf } from '../../tensor/codec.ts';
import type { Features } from './kernels/kernel.ts';
import type { KernelKey } from './lowering.ts';

/** How weights of one kind stand in panels of columns, ready for their kernels. */
export interface PanelLayout {
  /** Which kernels multiply them, with their variant: `float32`, `float16`, `int8`, `lowBit:4::half`, `signs:signs::row`. */
  readonly family: string;
  /** Which kernels put rows of each section in their place. */
  readonly packers: { readonly values: KernelKey; readonly scales?: KernelKey; readonly zeros?: KernelKey };
  /** Floats or codes of a column, with padding. */
  readonly K: number;
  /** Columns of a panel. */
  readonly width: number;
  readonly panelBytes: number;
  /** Codes that share a scale where scales stand behind the codes of each panel; 0 where they are a vector. */
  readonly group: number;
  /** From a panel's start to its scales, and to its zero points. */
  readonly scalesAt: number;
  readonly zerosAt: number;
}

/** Columns of a panel of bits: two vectors of bytes. */
export const SIGNS_WIDTH = 32;

const align = (n: number): number => (n + 15) & ~15;

export function panelLayout(
  weight: Parameter,
  { binaryInput }: LinearNode['attributes'],
  { panel }: Pick<Features, 'panel'>,
): PanelLayout {
  const columns = columnsOf(weight.shape);
  const common = { group: 0, scalesAt: 0, zerosAt: 0, width: panel } as const;
  if (isFloat(weight.codec)) {
    const whole = weight.codec === 'float32';
    return {
      ...common,
      family: weight.codec,
      packers: { values: whole ? 'packFloat32' : 'packHalves' },
      K: columns,
      panelBytes: columns * panel * (whole ? 4 : 2),
    };
  }
  const K = quantizedPitch(columns);
  if (weight.codec === 'int8')
    return {
      ...common,
      family: 'int8',
      packers: { values: 'packInt8' },
      K,
      panelBytes: K * panel,
    };
  return groupedLayout(weight, binaryInput, K, panel);
}

/** Codes of fewer than 8 bits, then the scales of their groups, then the zero points. */
function groupedLayout(weight: Parameter, binaryInput: boolean, pitch: number, panel: number): PanelLayout {
  const { bits, low, step } = codeFormat(weight);
  const columns = columnsOf(weight.shape);
  const whole = weight.groupSize === undefined;
  const K = binaryInput ? bitsPitch(columns) * 8 : pitch;
  const width = binaryInput ? SIGNS_WIDTH : panel;
  const group = whole ? K : groupSizeOf(weight);
  const groups = whole ? 1 : columns / group;
  // A scale a row is nothing beside the codes, and 32 bits hold every sum of codes until its scale comes.
  const scales = whole ? 'row' : scaleTypeOf(weight) === 'float16' ? 'half' : 'float';
  const affine = isAffine(weight);
  const scalesAt = align((K * width * bits) / 8);
  const zerosAt = scalesAt + align(groups * width * (scales === 'half' ? 2 : 4));
  const variant = `${binaryInput ? 'signs' : bits}:${affine ? 'affine' : ''}:${scales}`;
  return {
    family: `${binaryInput ? 'signs' : 'lowBit'}:${variant}`,
    packers: {
      values: binaryInput ? `packSigns:${variant}` : `packCodes:${variant}:${Math.ceil(-low / step)}`,
      scales: `packScales:${variant}:${scaleTypeOf(weight)}`,
      ...(affine && { zeros: `packZeros:${variant}` }),
    },
    K,
    width,
    panelBytes: zerosAt + (affine ? zerosAt - scalesAt : 0),
    group,
    scalesAt,
    zerosAt,
  };
}
