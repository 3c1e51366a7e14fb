import { createHash } from 'node:crypto';
import type { Model } from '../../model/config.ts';
import { formatSpec } from '../../tensor/codec.ts';

const known = new WeakMap<Model, Promise<string>>();

/** SHA-256 of configuration, tokenizer, recipe and weights; computed once for each Model. */
export function hashModel(model: Model, signal?: AbortSignal): Promise<string> {
  const before = known.get(model);
  if (before) return before;
  const hash = compute(model, signal);
  known.set(model, hash);
  hash.catch(() => known.delete(model));
  return hash;
}

async function compute(model: Model, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([model.config, model.tokenizer, model.recipe]));
  for (const [name, spec] of [...model.weights.specs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    signal?.throwIfAborted();
    hash.update(JSON.stringify([name, formatSpec(spec)])).update((await model.weights.read(name)).bytes);
  }
  return hash.digest('hex');
}
