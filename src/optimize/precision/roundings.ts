import { applyRecipe, type RecipeStep, type StepContext } from '../../compress/index.ts';
import { formatWidth, type Width } from '../../compress/quantize/width.ts';
import type { Model, WeightStore } from '../../model/config.ts';
import { isFloat, specOf, type Weight } from '../../tensor/codec.ts';
import type { Unit } from './units.ts';

/** How codes are chosen while widths are searched: one weight at a time, whatever the others are stored in. */
export type RoundingMethod = 'rtn' | 'gptq';

/**
 * Weights in any of their widths, rounded by the recipe step that will round them for good: a width's weights are made
 * together when the first of them is read, and may then be mixed with those of another.
 */
export class Roundings {
  readonly model: Model;
  readonly units: readonly Unit[];
  private readonly step: RecipeStep;
  private readonly context: StepContext;
  private readonly made = new Map<string, Promise<WeightStore>>();

  /** @param options of the step beside `mixed` */
  constructor(
    model: Model,
    units: readonly Unit[],
    options: Readonly<Record<string, unknown>>,
    context: StepContext,
  ) {
    this.model = model;
    this.units = units;
    this.step = { ...options, step: 'quantize' };
    this.context = context;
  }

  async read(weight: string, width: Width): Promise<Weight> {
    const name = formatWidth(width);
    const made = this.made.get(name) ?? this.make(width);
    this.made.set(name, made);
    return (await made).read(weight);
  }

  /** The model with each weight in its own width. */
  mixed(widths: ReadonlyMap<string, Width>): Model {
    const { weights } = this.model;
    const specs = new Map(weights.specs);
    for (const [name, width] of widths)
      specs.set(name, specOf({ ...width, shape: weights.specs.get(name)!.shape }));
    const read = async (name: string): Promise<Weight> => {
      const width = widths.get(name);
      return width && width.codec !== 'float32' ? this.read(name, width) : weights.read(name);
    };
    return { ...this.model, weights: { specs, read } };
  }

  private async make(width: Width): Promise<WeightStore> {
    const name = formatWidth(width);
    const fitting = this.units.filter(({ widths }) => widths.some((other) => formatWidth(other) === name));
    // Stacked weights are all floats or all integers: where one has this width, all of its stack do.
    const mixed = Object.fromEntries(fitting.map(({ weight }) => [weight, name]));
    const step = isFloat(width.codec) ? { step: this.step.step, mixed } : { ...this.step, mixed };
    return (await applyRecipe(this.model, [step], this.context)).weights;
  }
}
