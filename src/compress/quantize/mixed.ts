import { isMatrix, names } from '../../model/names.ts';
import { ROLES, type Role, roleOf } from '../../model/roles.ts';
import type { WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import { fitsWidth, parseWidth, type Width } from './width.ts';

/**
 * Widths by hand: each key is a weight's name, a role (`word`, `query`, `down` …, `embedding` for all tables), or a
 * regular expression between slashes that is looked for in names; a later key has the last word.
 */
export type MixedWidths = Readonly<Record<string, string>>;

/** Weights that may be stored in fewer bits: matrices of products and embedding tables. */
export const isQuantizable = (name: string): boolean =>
  isMatrix(name) || name === names.position || name === names.tokenType;

/**
 * The width of each weight that some key names.
 * @throws `MIXED_NOTHING` for a key that matches no weight, `MIXED_PATTERN` for a regular expression that is none,
 * `WIDTH_UNKNOWN`, `GROUP_SIZE` for groups that do not divide the columns of a weight that is named by itself
 */
export function resolveMixed(specs: ReadonlyMap<string, WeightSpec>, mixed: MixedWidths): Map<string, Width> {
  const weights = [...specs.keys()].filter(isQuantizable);
  const out = new Map<string, Width>();
  for (const [key, text] of Object.entries(mixed)) {
    const width = parseWidth(text);
    const matches = matcher(key);
    const found = weights.filter(matches);
    if (found.length === 0)
      throw new AttenuateError(
        'MIXED_NOTHING',
        `[quantize] a width for nothing: expected a weight, a role (${[...ROLES, 'embedding'].join(', ')}) or a /regular expression/ that matches one, got ${JSON.stringify(key)}. Correct it; the model has ${weights.slice(0, 8).join(', ')}${weights.length > 8 ? ' …' : ''}.`,
        { key, weights },
      );
    for (const name of found) {
      const { shape } = specs.get(name)!;
      if (!fitsWidth(shape, width))
        throw new AttenuateError(
          'GROUP_SIZE',
          `[quantize] groups that do not divide the columns of ${name}: expected a divisor of ${shape.at(-1)}, got ${width.groupSize}. Choose another width for it.`,
          { name, shape, groupSize: width.groupSize },
        );
      out.set(name, width);
    }
  }
  return out;
}

function matcher(key: string): (name: string) => boolean {
  if (key === 'embedding') return (name) => name.startsWith('embedding.');
  if (ROLES.includes(key as Role)) return (name) => roleOf(name) === key;
  const [, source] = /^\/(.+)\/$/.exec(key) ?? [];
  if (source === undefined) return (name) => name === key || name === `${key}.weight`;
  try {
    const pattern = new RegExp(source);
    return (name) => pattern.test(name);
  } catch (error) {
    throw new AttenuateError(
      'MIXED_PATTERN',
      `[quantize] a regular expression that cannot be read: expected one between slashes, got ${key}: ${(error as Error).message}. Correct it.`,
      { key },
    );
  }
}
