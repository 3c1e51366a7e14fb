import { isQuantizable } from '../../compress/quantize/mixed.ts';
import { fitsWidth, parseWidth, type Width } from '../../compress/quantize/width.ts';
import { layerOf, type Role, roleOf } from '../../model/roles.ts';
import type { LinearNode } from '../../program/ops/linear.ts';
import type { Program } from '../../program/program.ts';
import { isFloat, type WeightSpec } from '../../tensor/codec.ts';

/** A weight whose width is chosen: a matrix, or a table of an embedding. */
export interface Unit {
  readonly weight: string;
  readonly role: Role | null;
  readonly layer: number | null;
  readonly shape: readonly number[];
  /** Whether a product reads it; a table is read row by row. */
  readonly product: boolean;
  /** First weight of the product that it is stacked in, its own name where it stands alone. */
  readonly stack: string;
  readonly widths: readonly Width[];
}

/** Widths that are tried unless others are asked for, widest first. */
export const USUAL_WIDTHS: readonly string[] = [
  'float16',
  'int8',
  'int4-g32-affine',
  'int4-g32',
  'int4-g64',
  'int4-g128',
  'int2-g32-affine',
  'ternary-g32',
  'binary-g32',
];

/** The float weights of a model that may be stored in fewer bits, in the order in which they are read. */
export function unitsOf(
  program: Program,
  specs: ReadonlyMap<string, WeightSpec>,
  widths: readonly string[] = USUAL_WIDTHS,
): Unit[] {
  const parsed = widths.map(parseWidth);
  const stacks = new Map<string, string>();
  for (const node of program.nodes) {
    if (node.kind !== 'linear') continue;
    const { attributes, parameters } = node as LinearNode;
    const parts = parameters.slice(0, attributes.parts);
    for (const { name } of parts) stacks.set(name, parts[0].name);
  }
  const read = new Set(program.nodes.flatMap((node) => node.parameters.map(({ name }) => name)));
  return [...read]
    .filter((name) => isQuantizable(name) && isFloat(specs.get(name)!.codec))
    .map((weight) => {
      const { shape } = specs.get(weight)!;
      return {
        weight,
        role: roleOf(weight),
        layer: layerOf(weight),
        shape,
        product: stacks.has(weight),
        stack: stacks.get(weight) ?? weight,
        widths: parsed.filter((width) => fitsWidth(shape, width)),
      };
    });
}
