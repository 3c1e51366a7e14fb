import { memoryStore } from '../format/memory-store.ts';
import type { Model, WeightStore } from '../model/config.ts';
import {
  decode,
  type EncodeOptions,
  encode,
  isPlain,
  type Weight,
  type WeightSpec,
} from '../tensor/codec.ts';

const isCoded = ({ codec }: WeightSpec): boolean => !isPlain(codec);

/**
 * The model with floats in the place of its codes, for training to change: the weights that it had before where they
 * are the same ones, rounded, else what its codes stand for.
 */
export async function withMasters(before: Model, after: Model): Promise<Model> {
  const rounded = await isRounded(before, after);
  const { specs } = after.weights;
  const weights: WeightStore = {
    specs: new Map(
      [...specs].map(([name, spec]) => [
        name,
        isCoded(spec) ? { codec: 'float32', shape: spec.shape } : spec,
      ]),
    ),
    async read(name) {
      const spec = specs.get(name)!;
      if (!isCoded(spec)) return after.weights.read(name);
      const from = rounded && isMasterOf(before.weights.specs.get(name), spec) ? before : after;
      return encode({ codec: 'float32', shape: spec.shape }, decode(await from.weights.read(name)));
    },
  };
  return { ...after, weights };
}

const isMasterOf = (spec: WeightSpec | undefined, coded: WeightSpec): boolean =>
  spec !== undefined && !isCoded(spec) && spec.shape.join() === coded.shape.join();

/** Whether nothing was folded out of one weight into another: every scale of a norm is what it was. */
async function isRounded(before: Model, after: Model): Promise<boolean> {
  for (const [name, spec] of after.weights.specs) {
    if (!name.endsWith('.scale') || isCoded(spec) || !before.weights.specs.has(name)) continue;
    const [was, is] = await Promise.all([before, after].map(async (m) => decode(await m.weights.read(name))));
    if (was.length !== is.length || is.some((x, i) => x !== was[i])) return false;
  }
  return true;
}

/** The trained model with codes where `coded` has them, by the rule that training ran them by; all in memory. */
export async function withCodes(
  trained: Model,
  coded: ReadonlyMap<string, WeightSpec>,
  options: EncodeOptions,
): Promise<Model> {
  const weights = new Map<string, Weight>();
  for (const name of trained.weights.specs.keys()) {
    const spec = coded.get(name)!;
    const weight = await trained.weights.read(name);
    weights.set(name, isCoded(spec) ? encode(spec, decode(weight), options) : weight);
  }
  return { ...trained, weights: memoryStore(weights) };
}
