import { MECHANISMS } from '../attention/all.ts';
import type { AttentionSpec, Mechanism } from '../attention/mechanism.ts';
import { type OptionSpec, parseOptions } from '../attention/options.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { LayerSelection } from './layers.ts';
import type { RecipeStep } from './step.ts';

const invalid = (what: string, expected: string, got: string) =>
  new AttenuateError(
    'ATTENTION_NOTATION',
    `[attention] ${what}: expected ${expected}, got ${JSON.stringify(got)}. Correct the text.`,
    { got },
  );

/**
 * Attention steps from text: kinds separated by commas, each with options and layers where wanted, as in
 * `local(left=64,right=64)@every2,performer(features=128),linformer@[0,3]`. A kind alone takes its defaults; where an
 * option has none, it takes those of the mechanism's first benchmark row. `all` is each mechanism but `dense`. Layers:
 * `@every3` (0, 3, 6, …), `@every3+1` (1, 4, …), `@except3` (those that `@every3` leaves), `@[0,2]`.
 * @throws `ATTENTION_NOTATION`, `ATTENTION_OPTION`, `MASK_INVALID`; `ATTENTION_UNKNOWN` naming the kinds there are
 */
export const parseAttention = (text: string): RecipeStep[] => splitOutside(text, ',').flatMap(stepsOf);

function stepsOf(item: string): RecipeStep[] {
  const match = /^([a-z0-9-]+)\s*(?:\((.*)\))?\s*(?:@(.+))?$/s.exec(item.trim());
  if (!match)
    throw invalid('a mechanism that cannot be read', 'kind, kind(option=value,…) or kind@layers', item);
  const [, kind, inside, where] = match;
  const layers = where === undefined ? {} : { layers: parseLayers(where.trim()) };
  if (kind === 'all') {
    if (inside !== undefined) throw invalid('options of all mechanisms at once', 'all or all@layers', item);
    return MECHANISMS.filter((mechanism) => mechanism.kind !== 'dense').flatMap((mechanism) => {
      const options = usualOptions(mechanism);
      return options ? [{ step: 'attention', kind: mechanism.kind, ...options, ...layers }] : [];
    });
  }
  const mechanism = MECHANISMS.find((known) => known.kind === kind);
  if (!mechanism)
    throw new AttenuateError(
      'ATTENTION_UNKNOWN',
      `[attention] unknown mechanism: expected one of ${MECHANISMS.map((known) => known.kind).join(', ')}, or all, got ${kind}. Correct the name.`,
      { kind },
    );
  const options =
    inside === undefined
      ? (usualOptions(mechanism) ?? {})
      : Object.fromEntries(
          splitOutside(inside, ',')
            .filter((part) => part.trim() !== '')
            .map((part) => optionOf(mechanism, part)),
        );
  parseOptions(kind, mechanism.options, options);
  return [{ step: 'attention', kind, ...options, ...layers }];
}

/** None where every option has a default, else the first benchmark row's; null where that leaves some open. */
function usualOptions({ options, bench }: Mechanism): Readonly<Record<string, unknown>> | null {
  const open = Object.keys(options).filter((name) => options[name].default === undefined);
  if (open.length === 0) return {};
  const usual = Object.values(bench)[0] as Readonly<Record<string, unknown>> | undefined;
  return usual && open.every((name) => Object.hasOwn(usual, name)) ? usual : null;
}

function optionOf({ kind, options }: Mechanism, part: string): [name: string, value: unknown] {
  const equals = part.indexOf('=');
  const name = part.slice(0, Math.max(0, equals)).trim();
  const value = part.slice(equals + 1).trim();
  if (!name || !value) throw invalid(`an option of ${kind} that cannot be read`, 'name=value', part);
  return [name, Object.hasOwn(options, name) ? optionValue(options[name], value) : value];
}

/** What the text says in the option's type; the text itself where it says nothing, for the check to name. */
function optionValue({ type }: OptionSpec, text: string): unknown {
  if (type === 'choice') return text;
  if (type === 'integer' || type === 'number') return Number.isNaN(Number(text)) ? text : Number(text);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function parseLayers(text: string): LayerSelection {
  const rule = /^(every|except)(\d+)(?:\+(\d+))?$/.exec(text);
  if (rule) {
    const [every, offset] = [Number(rule[2]), Number(rule[3] ?? 0)];
    if (every > 0) return { every, offset, except: rule[1] === 'except' };
  }
  if (text === 'all') return 'all';
  if (/^\[\s*\d+(\s*,\s*\d+)*\s*\]$/.test(text)) return JSON.parse(text);
  throw invalid('layers that cannot be read', 'all, every3, every3+1, except3 or [0,2]', text);
}

/** Splits where no bracket is open and no JSON string runs. */
function splitOutside(text: string, separator: string): string[] {
  const parts: string[] = [''];
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted && c === '\\') {
      parts[parts.length - 1] += c + (text[++i] ?? '');
      continue;
    }
    if (c === '"') quoted = !quoted;
    else if (!quoted && '([{'.includes(c)) depth++;
    else if (!quoted && ')]}'.includes(c)) depth--;
    if (c === separator && depth === 0 && !quoted) parts.push('');
    else parts[parts.length - 1] += c;
    if (depth < 0) break;
  }
  if (depth !== 0 || quoted) throw invalid('brackets that do not match', 'one ) for each (', text);
  return parts;
}

/** `local(left=64,right=64)`; options that have their default are left out, long ones cut. */
export function formatAttention({ kind, ...options }: AttentionSpec): string {
  const specs = MECHANISMS.find((known) => known.kind === kind)?.options ?? {};
  const shown = Object.entries(options)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(specs[name]?.default))
    .map(([name, value]) => `${name}=${short(typeof value === 'string' ? value : JSON.stringify(value))}`);
  return shown.length > 0 ? `${kind}(${shown.join(',')})` : kind;
}

const short = (text: string): string => (text.length > 60 ? `${text.slice(0, 59)}…` : text);

/** An attention step in the notation that `parseAttention` reads. */
export function formatStep({ step: _, layers = 'all', ...spec }: RecipeStep): string {
  const where = layers as LayerSelection;
  const name = formatAttention(spec as unknown as AttentionSpec);
  if (where === 'all') return name;
  if (Array.isArray(where)) return `${name}@${JSON.stringify(where)}`;
  const { every, offset, except } = where as Exclude<LayerSelection, string | number[]>;
  return `${name}@${except ? 'except' : 'every'}${every}${offset ? `+${offset}` : ''}`;
}
