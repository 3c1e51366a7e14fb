import { AttenuateError } from '../tensor/error.ts';
import type { AttentionSpec, Mechanism } from './mechanism.ts';
import { ON_DEMAND } from './on-demand.ts';
import { parseOptions } from './options.ts';

/** A mechanism with options that passed its checks. */
export interface ChosenMechanism {
  readonly mechanism: Mechanism;
  readonly options: Readonly<Record<string, unknown>>;
}

/** The mechanisms that some layers use, by kind. @throws `ATTENTION_UNKNOWN` naming those there are */
export async function loadMechanisms(
  specs: readonly AttentionSpec[],
): Promise<ReadonlyMap<string, Mechanism>> {
  const found = new Map<string, Mechanism>();
  for (const { kind } of specs) {
    if (found.has(kind)) continue;
    if (!Object.hasOwn(ON_DEMAND, kind))
      throw new AttenuateError(
        'ATTENTION_UNKNOWN',
        `[attention] unknown mechanism: expected one of ${Object.keys(ON_DEMAND).join(', ')}, got ${String(kind).slice(0, 60)}. Correct "kind".`,
        { kind },
      );
    found.set(kind, (await ON_DEMAND[kind]()).default);
  }
  return found;
}

/** A layer's mechanism with its options, defaults filled in. @throws `ATTENTION_OPTION`, `MASK_INVALID` */
export function chooseMechanism(
  { kind, ...given }: AttentionSpec,
  mechanisms: ReadonlyMap<string, Mechanism>,
): ChosenMechanism {
  const found = mechanisms.get(kind)!;
  return { mechanism: found, options: parseOptions(kind, found.options, given) };
}
