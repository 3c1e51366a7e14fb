import type { WeightStore } from '../model/config.ts';
import { specOf, type Weight } from '../tensor/codec.ts';

/** A store in which some weights are others, new, or gone. */
export function overlay(inner: WeightStore, changed: ReadonlyMap<string, Weight | null>): WeightStore {
  const specs = new Map(inner.specs);
  for (const [name, weight] of changed) {
    if (weight) specs.set(name, specOf(weight));
    else specs.delete(name);
  }
  return {
    specs,
    read: async (name) => changed.get(name) ?? inner.read(name),
    close: inner.close && (() => inner.close!()),
  };
}
