import type { Model } from '../model/config.ts';
import { formatSpec } from '../tensor/codec.ts';
import { BlockHash } from './sha256.ts';

const known = new WeakMap<Model, Promise<string>>();

/** A hash (`BlockHash`) of configuration, tokenizer, recipe and weights; computed once for each Model. */
export function hashModel(model: Model, signal?: AbortSignal): Promise<string> {
  const before = known.get(model);
  if (before) return before;
  const hash = compute(model, signal);
  known.set(model, hash);
  hash.catch(() => known.delete(model));
  return hash;
}

/** The hash (`BlockHash`) of a text. */
export async function hashText(text: string): Promise<string> {
  const hash = new BlockHash();
  await hash.update(new TextEncoder().encode(text));
  return hash.digest();
}

async function compute(model: Model, signal?: AbortSignal): Promise<string> {
  const hash = new BlockHash();
  const say = (value: unknown) => hash.update(new TextEncoder().encode(JSON.stringify(value)));
  await say([model.config, model.tokenizer, model.recipe]);
  for (const [name, spec] of [...model.weights.specs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    signal?.throwIfAborted();
    await say([name, formatSpec(spec)]);
    await hash.update((await model.weights.read(name)).bytes);
  }
  return hash.digest();
}
