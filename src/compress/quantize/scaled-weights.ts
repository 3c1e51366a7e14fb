import type { WeightStore } from '../../model/config.ts';
import { decode, elements, encode, type Weight } from '../../tensor/codec.ts';
import { byColumns, companion } from './companions.ts';
import type { Fold } from './fold.ts';
import type { ProductInput } from './product-inputs.ts';

/**
 * A model's weights with inputs of products scaled: columns of an input by 1/s, columns of the weights that meet it
 * by s, which leaves every product what it was (Xiao et al. 2023, equation 3).
 */
export class ScaledWeights {
  private readonly store: WeightStore;
  private readonly rows = new Map<string, Float32Array>();
  private readonly columns = new Map<string, Float32Array>();
  private readonly companions = new Map<string, Weight>();

  constructor(store: WeightStore) {
    this.store = store;
  }

  /** @param scale s, positive, one for each column of the input */
  scale({ products }: ProductInput, fold: Fold, scale: Float32Array): void {
    const inverse = scale.map((s) => 1 / s);
    for (const name of products) this.columns.set(name, scale);
    if (fold.kind === 'rows') for (const name of fold.weights) this.rows.set(name, inverse);
    else
      for (const name of products)
        this.companions.set(companion(name, 'inputScale'), encode('float32', [inverse.length], inverse));
  }

  async values(name: string): Promise<Float32Array> {
    const weight = await this.store.read(name);
    const [rows, columns] = [this.rows.get(name), this.columns.get(name)];
    let values = decode(weight);
    if (columns) values = byColumns(values, columns);
    if (!rows) return values;
    const width = elements(weight.shape) / weight.shape[0];
    return values.map((v, i) => v * rows[Math.floor(i / width)]);
  }

  /** Weights that scaling changed or made, in the codec that they have; `except` those that are stored anew anyway. */
  async changed(except: ReadonlySet<string>): Promise<Map<string, Weight>> {
    const out = new Map(this.companions);
    for (const name of new Set([...this.rows.keys(), ...this.columns.keys()])) {
      if (except.has(name)) continue;
      out.set(name, encode(this.store.specs.get(name)!, await this.values(name)));
    }
    return out;
  }
}
