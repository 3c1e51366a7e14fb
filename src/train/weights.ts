import type { TrainingMachine } from '../backend/wasm/training/types.ts';
import { memoryStore } from '../format/memory-store.ts';
import type { Model } from '../model/config.ts';
import { decode, encode, type Weight, type WeightSpec } from '../tensor/codec.ts';

/** Every weight as float32, which is how training holds it. */
export const masterSpecs = (specs: ReadonlyMap<string, WeightSpec>): Map<string, WeightSpec> =>
  new Map([...specs].map(([name, { shape }]) => [name, { codec: 'float32', shape }]));

type Held = Pick<TrainingMachine, 'weight'>;

/** Copies a model's weights, those named, into a machine. */
export async function loadWeights(
  machine: Held,
  { weights }: Pick<Model, 'weights'>,
  names: Iterable<string>,
): Promise<void> {
  for (const name of names) machine.weight(name).set(decode(await weights.read(name)));
}

/** The model with the machine's weights, as float32, in the place of its own of those names. */
export function withWeights(model: Model, machine: Held, names: Iterable<string>): Model {
  const trained = new Map<string, Weight>();
  for (const name of names) {
    const { shape } = model.weights.specs.get(name)!;
    trained.set(name, encode({ codec: 'float32', shape }, machine.weight(name).slice()));
  }
  const store = memoryStore(trained);
  return {
    ...model,
    weights: {
      specs: new Map([...model.weights.specs].map(([name, spec]) => [name, store.specs.get(name) ?? spec])),
      read: (name) => (trained.has(name) ? store.read(name) : model.weights.read(name)),
      close: model.weights.close && (() => model.weights.close!()),
    },
  };
}
