import { type MaskExpression, validateMask } from '../program/mask/expression.ts';
import { AttenuateError } from '../tensor/error.ts';

/** One option of a mechanism: its type, its bounds, and its default (none: it must be given). */
export type OptionSpec =
  | {
      readonly type: 'integer' | 'number';
      readonly least: number;
      readonly most: number;
      readonly default?: number;
      readonly what: string;
    }
  | { readonly type: 'boolean'; readonly default?: boolean; readonly what: string }
  | {
      readonly type: 'choice';
      readonly choices: readonly string[];
      readonly default?: string;
      readonly what: string;
    }
  /** Whole numbers, at most `length` of them. */
  | {
      readonly type: 'integers';
      readonly least: number;
      readonly most: number;
      readonly length: number;
      readonly default?: readonly number[];
      readonly what: string;
    }
  | { readonly type: 'mask'; readonly what: string; readonly default?: MaskExpression };

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

type ValueOf<S extends OptionSpec> = S extends { type: 'integer' | 'number' }
  ? number
  : S extends { type: 'boolean' }
    ? boolean
    : S extends { type: 'choice'; choices: readonly (infer C)[] }
      ? C
      : S extends { type: 'integers' }
        ? readonly number[]
        : MaskExpression;
/** The values that specs describe, every default filled in. */
export type OptionsOf<S extends OptionSpecs> = { readonly [K in keyof S]: ValueOf<S[K]> };

function problemOf(spec: OptionSpec, value: unknown): string | null {
  switch (spec.type) {
    case 'integer':
    case 'number': {
      const whole = spec.type === 'number' ? Number.isFinite(value) : Number.isSafeInteger(value);
      const inside = whole && (value as number) >= spec.least && (value as number) <= spec.most;
      return inside
        ? null
        : `${spec.type === 'integer' ? 'a whole' : 'a'} number from ${spec.least} to ${spec.most}`;
    }
    case 'boolean':
      return typeof value === 'boolean' ? null : 'true or false';
    case 'choice':
      return spec.choices.includes(value as string) ? null : spec.choices.join(', ');
    case 'integers': {
      const good =
        Array.isArray(value) &&
        value.length <= spec.length &&
        value.every((x) => Number.isSafeInteger(x) && x >= spec.least && x <= spec.most);
      return good ? null : `at most ${spec.length} whole numbers from ${spec.least} to ${spec.most}`;
    }
    case 'mask':
      return null;
  }
}

/**
 * Checks options of unknown origin and fills in the defaults.
 * @throws `ATTENTION_OPTION` for an unknown, missing or unsound option; `MASK_INVALID` for an unsound mask
 */
export function parseOptions(
  kind: string,
  specs: OptionSpecs,
  given: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const fail = (name: string, expected: string, got: unknown) =>
    new AttenuateError(
      'ATTENTION_OPTION',
      `[attention] bad option ${name} of ${kind}: expected ${expected}, got ${JSON.stringify(got)?.slice(0, 100) ?? 'nothing'}. Correct the option.`,
      { kind, option: name, expected },
    );
  for (const name of Object.keys(given))
    if (!Object.hasOwn(specs, name))
      throw fail(name, `one of ${Object.keys(specs).join(', ') || 'no options at all'}`, given[name]);
  const out: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const value = Object.hasOwn(given, name) ? given[name] : spec.default;
    if (value === undefined) throw fail(name, spec.what, undefined);
    const problem = problemOf(spec, value);
    if (problem) throw fail(name, problem, value);
    out[name] = spec.type === 'mask' ? validateMask(value) : value;
  }
  return out;
}
