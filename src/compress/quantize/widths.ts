import type { Model } from '../../model/config.ts';
import { isMatrix, names } from '../../model/names.ts';
import { layerOf, ROLES, type Role, roleOf } from '../../model/roles.ts';
import { type Codec, checkSpec, columnsOf, isFloat, type WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { selectLayers } from '../layers.ts';
import { resolveMixed } from './mixed.ts';
import type { Bits, QuantizeOptions } from './options.ts';
import { parseWidth, type Width } from './width.ts';

const CODEC: Readonly<Record<Bits, Codec>> = {
  16: 'float16',
  8: 'int8',
  4: 'int4',
  2: 'int2',
  ternary: 'ternary',
  binary: 'binary',
};
const DEFAULT_GROUP = 32;

/**
 * How each weight that a step changes will be stored. Weights of integers stay what they are.
 * @throws `QUANTIZE_NOTHING`, `QUANTIZE_ROLE` for a role that no weight has, `QUANTIZE_TWICE` for a width by hand for
 * weights that are integers already, `QUANTIZE_STACK`, and what the codec and `resolveMixed` throw
 */
export function widthsOf(model: Model, options: QuantizeOptions): Map<string, Width> {
  const { specs } = model.weights;
  const targets = [...specs.keys()].filter(selected(model, options));
  const open = targets.filter((name) => isOpen(specs.get(name)!));
  const out = new Map<string, Width>();
  for (const name of open) {
    const width = defaultWidth(options, name, specs.get(name)!);
    if (width) out.set(name, width);
  }
  for (const [name, width] of Object.entries(mixedOf(specs, options)))
    if (width.codec === 'float32') out.delete(name);
    else out.set(name, width);
  for (const [name, width] of out) checkSpec({ ...width, shape: specs.get(name)!.shape });
  if (out.size === 0)
    throw new AttenuateError(
      'QUANTIZE_NOTHING',
      `[quantize] nothing left to quantise: expected at least one float matrix, got ${targets.length} matrices that are all integers already. Remove this step from the recipe.`,
      { matrices: targets.length },
    );
  expectWholeStacks(specs, out);
  return out;
}

const isOpen = ({ codec }: WeightSpec): boolean =>
  codec === 'float32' || codec === 'float16' || codec === 'bfloat16';

/** Which weights the step is about, apart from those of `mixed`. @throws `QUANTIZE_ROLE`, `LAYER_MISSING` */
function selected(
  model: Model,
  { embeddings, head, layers, roles }: QuantizeOptions,
): (name: string) => boolean {
  const chosen = selectLayers('quantize', layers, model.config.layers.length);
  const all = [...model.weights.specs.keys()];
  const missing = roles?.find((role) => !all.some((name) => roleOf(name) === role));
  if (missing)
    throw new AttenuateError(
      'QUANTIZE_ROLE',
      `[quantize] a role that no weight has: expected one of ${ROLES.filter((role) => all.some((name) => roleOf(name) === role)).join(', ')}, got ${missing}. Correct "roles".`,
      { role: missing },
    );
  return (name) => {
    const role = roleOf(name);
    if (roles && !(role && roles.includes(role))) return false;
    if (name === names.word) return embeddings !== false;
    if (name === names.position || name === names.tokenType) return typeof embeddings === 'string';
    if (!isMatrix(name)) return false;
    const layer = layerOf(name);
    return layer === null ? head : chosen.has(layer);
  };
}

function defaultWidth(options: QuantizeOptions, name: string, { shape }: WeightSpec): Width | null {
  const { embeddings, bits, groupSize, scheme, scaleType } = options;
  const table = name === names.word || name === names.position || name === names.tokenType;
  if (table && typeof embeddings === 'string') {
    const width = parseWidth(embeddings);
    return name === names.word || isFloat(width.codec) ? width : { codec: 'int8' };
  }
  if (bits === undefined) return null;
  // A table has no codes but those that it is asked to have: it is looked up, not multiplied.
  if (table) return { codec: bits === 16 ? 'float16' : 'int8' };
  const codec = CODEC[bits];
  if (codec === 'float16') return { codec };
  const grouped = codec === 'int4' || codec === 'int2';
  const group = groupSize ?? (grouped && columnsOf(shape) % DEFAULT_GROUP === 0 ? DEFAULT_GROUP : 'row');
  return {
    codec,
    ...(group !== 'row' && { groupSize: group }),
    ...(scheme === 'affine' && { scheme }),
    ...(scaleType && { scaleType }),
  };
}

function mixedOf(specs: ReadonlyMap<string, WeightSpec>, { mixed }: QuantizeOptions): Record<string, Width> {
  if (!mixed) return {};
  const found = resolveMixed(specs, mixed);
  for (const name of found.keys())
    if (!isOpen(specs.get(name)!))
      throw new AttenuateError(
        'QUANTIZE_TWICE',
        `[quantize] a width for integers: expected floats in ${name}, got ${specs.get(name)!.codec}. Take it out of "mixed", or quantise the float model.`,
        { name, codec: specs.get(name)!.codec },
      );
  return Object.fromEntries(found);
}

const STACKED: readonly Role[] = ['query', 'key', 'value'];

/** Queries, keys and values of a layer come from one product, and floats are not stacked with integers. */
function expectWholeStacks(specs: ReadonlyMap<string, WeightSpec>, widths: ReadonlyMap<string, Width>): void {
  const integers = new Map<number, Map<boolean, string>>();
  for (const [name, spec] of specs) {
    const [layer, role] = [layerOf(name), roleOf(name)];
    if (layer === null || !role || !STACKED.includes(role)) continue;
    const kinds = integers.get(layer) ?? new Map<boolean, string>();
    integers.set(layer, kinds.set(isFloat((widths.get(name) ?? spec).codec), name));
    if (kinds.size === 2)
      throw new AttenuateError(
        'QUANTIZE_STACK',
        `[quantize] floats beside integers in one product: expected query, key and value of layer ${layer} all in an integer codec or none, got ${kinds.get(true)} as floats and ${kinds.get(false)} as integers. Give all three a width.`,
        { layer, float: kinds.get(true), integer: kinds.get(false) },
      );
  }
}
