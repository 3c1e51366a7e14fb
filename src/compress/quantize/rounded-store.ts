import type { WeightStore } from '../../model/config.ts';
import { decode, encode, specOf, type Weight, type WeightSpec } from '../../tensor/codec.ts';
import type { Width } from './width.ts';

/** A store in which some weights are rounded when they are read, one at a time: a model is never held twice. */
export function roundedStore(
  inner: WeightStore,
  widths: ReadonlyMap<string, Width>,
  round: (spec: WeightSpec, values: Float32Array) => Weight = encode,
): WeightStore {
  const specs = new Map<string, WeightSpec>();
  for (const [name, spec] of inner.specs) {
    const width = widths.get(name);
    specs.set(name, width ? specOf({ ...width, shape: spec.shape }) : spec);
  }
  return {
    specs,
    async read(name) {
      const weight = await inner.read(name);
      return widths.has(name) ? round(specs.get(name)!, decode(weight)) : weight;
    },
    close: inner.close && (() => inner.close!()),
  };
}
