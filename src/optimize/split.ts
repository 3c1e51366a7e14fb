import { seeded, shuffled } from './random.ts';

export interface Labelled {
  readonly text: string;
  readonly label: string;
}

const byLabel = (examples: readonly Labelled[]): Labelled[][] => {
  const groups = new Map<string, Labelled[]>();
  for (const e of examples) {
    const group = groups.get(e.label);
    if (group) group.push(e);
    else groups.set(e.label, [e]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
};

/** At most `limit` examples with each label's share kept, at least one of each. Deterministic. */
export function stratifiedSample(examples: readonly Labelled[], limit: number, seed: number): Labelled[] {
  if (examples.length <= limit) return [...examples];
  const random = seeded(seed);
  const share = limit / examples.length;
  return byLabel(examples).flatMap((group) =>
    shuffled(group, random).slice(0, Math.max(1, Math.floor(group.length * share))),
  );
}

/**
 * Splits into training and held-out examples with each label's share kept: a label with one example trains
 * only. The order of the examples does not change which labels go where, the seed does.
 */
export function stratifiedSplit(
  examples: readonly Labelled[],
  heldOut: number,
  seed: number,
): { train: Labelled[]; test: Labelled[] } {
  const random = seeded(seed);
  const train: Labelled[] = [];
  const test: Labelled[] = [];
  for (const group of byLabel(examples)) {
    const mixed = shuffled(group, random);
    const count =
      mixed.length < 2 ? 0 : Math.min(mixed.length - 1, Math.max(1, Math.round(mixed.length * heldOut)));
    test.push(...mixed.slice(0, count));
    train.push(...mixed.slice(count));
  }
  return { train, test };
}
