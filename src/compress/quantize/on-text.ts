import type { Model } from '../../model/config.ts';
import { traceEncoder } from '../../model/encoder.ts';
import { names } from '../../model/names.ts';
import { decode, encode, isFloat, specOf, type Weight, type WeightSpec } from '../../tensor/codec.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { StepContext } from '../step.ts';
import { awqScale } from './awq.ts';
import { type ChosenCodes, valuesOf, weightOf } from './chosen-codes.ts';
import { clippingOf } from './clipping.ts';
import { roundToNearest } from './fit.ts';
import { type Fold, foldOf } from './fold.ts';
import { gptq } from './gptq.ts';
import { binaryCompanions, rangeCompanions, scaledStatistics } from './input-companions.ts';
import type { QuantizeOptions } from './options.ts';
import { type ProductInput, productInputs } from './product-inputs.ts';
import { ScaledWeights } from './scaled-weights.ts';
import { smoothingScale } from './smooth.ts';
import type { InputStatistics, ObservedInputs } from './statistics.ts';
import { Trial } from './trial.ts';
import type { Width } from './width.ts';

type Context = StepContext & Required<Pick<StepContext, 'observe'>>;

/** An input of products that change, how it can be scaled, and by what it is. */
interface Site {
  readonly input: ProductInput;
  readonly fold: Fold | null;
  scale: Float32Array | null;
}

/** Second moments that are held at once, about. */
const MOMENT_BYTES = 2 ** 28;

/** Quantises a model's products by what they read on the user's text. */
export class WeightsOnText {
  private readonly model: Model;
  private readonly options: QuantizeOptions;
  private readonly context: Context;
  private readonly scaled: ScaledWeights;
  private readonly widths: ReadonlyMap<string, Width>;
  private readonly out = new Map<string, Weight>();

  constructor(model: Model, widths: ReadonlyMap<string, Width>, options: QuantizeOptions, context: Context) {
    this.model = model;
    this.widths = widths;
    this.options = options;
    this.context = context;
    this.scaled = new ScaledWeights(model.weights);
  }

  /** Every weight that becomes another or new; tables and what no product reads are left to the caller. */
  async run(): Promise<ReadonlyMap<string, Weight>> {
    const { model, widths } = this;
    const program = await traceEncoder(model.config, model.weights.specs);
    const sites = productInputs(program)
      .filter(({ products }) => products.some((name) => widths.has(name) && name !== names.word))
      .map((input): Site => ({ input, fold: foldOf(program, input), scale: null }));
    if (this.options.activations !== 'dynamic') this.expectWhole(sites);
    if (scales(this.options)) await this.chooseScales(sites);
    const moments = this.options.method === 'gptq';
    let done = 0;
    for (const batch of moments ? batchesOf(sites) : [sites]) {
      const observed = await this.observe(batch, moments);
      for (const site of batch) {
        await this.quantizeSite(site, observed, (fraction) =>
          this.progress('quantize', site, (done + fraction) / sites.length),
        );
        done++;
      }
    }
    for (const [name, weight] of await this.scaled.changed(new Set(this.out.keys())))
      this.out.set(name, weight);
    return this.out;
  }

  private observe(sites: readonly Site[], moments: boolean): Promise<ObservedInputs> {
    return this.context.observe(this.model, {
      products: sites.flatMap(({ input }) => input.products.filter((name) => name !== names.word)),
      moments,
    });
  }

  private progress(what: string, { input }: Site, fraction: number): void {
    this.context.onProgress?.(`${what} ${input.products[0].replace(/\.weight$/, '')}`, fraction);
  }

  private specOf(name: string): WeightSpec {
    const spec = this.model.weights.specs.get(name)!;
    const width = this.widths.get(name);
    return width ? specOf({ ...width, shape: spec.shape }) : spec;
  }

  /** One range serves a whole input, so all that reads it has to be told. */
  private expectWhole(sites: readonly Site[]): void {
    for (const { input } of sites) {
      const binary = this.options.activations === 'binary';
      const left = input.products.find((name) => {
        const { codec } = this.widths.get(name) ?? this.model.weights.specs.get(name)!;
        return !this.widths.has(name) || isFloat(codec) || (binary && codec !== 'binary');
      });
      if (left && this.integers(input).length > 0)
        throw new AttenuateError(
          'QUANTIZE_INPUT',
          `[quantize] ${this.options.activations} activations for a part of what reads them: expected ${input.products.join(', ')} all quantised by this step, got ${left} left out. Quantise all of them, or take "dynamic".`,
          { products: input.products, left },
        );
    }
  }

  private integers({ products }: ProductInput): string[] {
    return products.filter((name) => {
      const width = this.widths.get(name);
      return width && !isFloat(width.codec);
    });
  }

  private async chooseScales(sites: readonly Site[]): Promise<void> {
    const observed = await this.observe(sites, false);
    for (const [i, site] of sites.entries()) {
      await breathe(this.context.signal);
      this.progress('scale', site, i / sites.length);
      const { input, fold } = site;
      // Integers that are there already cannot be scaled, and floats have nowhere to scale their input.
      const open = input.products.every((name) => isFloat(this.model.weights.specs.get(name)!.codec));
      const whole = this.integers(input).length === input.products.length;
      if (!fold || !open || (fold.kind === 'input' && !whole)) continue;
      site.scale = await this.bestScale(input, observed.get(input.products[0])!);
      if (site.scale) this.scaled.scale(input, fold, site.scale);
    }
  }

  private async bestScale(
    { products }: ProductInput,
    statistics: InputStatistics,
  ): Promise<Float32Array | null> {
    const trialed = await Promise.all(
      products.map(async (name) => ({ values: await this.scaled.values(name), spec: this.specOf(name) })),
    );
    const { method, smoothing = 'search' } = this.options;
    if (method !== 'awq' && smoothing !== 'search') return smoothingScale(statistics, trialed, smoothing);
    const trial = new Trial(trialed, statistics.samples);
    return trial.best((strength) =>
      method === 'awq' ? awqScale(statistics, strength) : smoothingScale(statistics, trialed, strength),
    );
  }

  private async quantizeSite(
    { input, scale }: Site,
    observed: ObservedInputs,
    onProgress: (fraction: number) => void,
  ): Promise<void> {
    const seen = observed.get(input.products[0])!;
    const statistics = scale
      ? scaledStatistics(
          seen,
          scale.map((s) => 1 / s),
        )
      : seen;
    const { activations, observer = 'mse', biasCorrection } = this.options;
    const products = input.products.filter((name) => this.widths.has(name));
    for (const [i, name] of products.entries()) {
      await breathe(this.context.signal);
      const spec = this.specOf(name);
      const values = await this.scaled.values(name);
      if (isFloat(spec.codec)) {
        this.out.set(name, encode(spec, values));
        continue;
      }
      const chosen = this.choose(spec, values, statistics, (fraction) =>
        onProgress((i + fraction) / products.length),
      );
      this.out.set(name, weightOf(spec, chosen));
      if (biasCorrection) await this.correctBias(name, values, valuesOf(spec, chosen), statistics);
    }
    const integers = this.integers(input);
    const companions =
      activations === 'static'
        ? rangeCompanions(integers, statistics, observer)
        : activations === 'binary'
          ? binaryCompanions(integers, statistics)
          : [];
    for (const [name, weight] of companions) this.out.set(name, weight);
  }

  private choose(
    spec: WeightSpec,
    values: Float32Array,
    statistics: InputStatistics,
    onProgress: (fraction: number) => void,
  ): ChosenCodes {
    const { method, order, damping, biasCorrection } = this.options;
    const clipping = clippingOf(spec, this.options);
    if (method !== 'gptq') {
      const importance = method === 'awq' ? Float64Array.from(statistics.meanSquare) : undefined;
      return roundToNearest(spec, values, clipping, importance);
    }
    // What the mean of the input does to the output, the bias takes back: only what varies around it counts then.
    const moments = biasCorrection ? covarianceOf(statistics) : statistics.moments!;
    return gptq(spec, values, moments, { order, damping, clipping, onProgress });
  }

  /** `b += (W − Ŵ) · mean(x)`: Nagel et al. 2019 (arXiv:1906.04721), section 4.2. */
  private async correctBias(
    name: string,
    values: Float32Array,
    rounded: Float32Array,
    { mean, columns }: InputStatistics,
  ): Promise<void> {
    const bias = name.replace(/\.weight$/, '.bias');
    if (!this.model.weights.specs.has(bias)) return;
    const before = this.out.get(bias);
    const corrected = before ? decode(before).slice() : await this.scaled.values(bias);
    for (let i = 0; i < values.length; i++)
      corrected[Math.floor(i / columns)] += (values[i] - rounded[i]) * mean[i % columns];
    this.out.set(bias, encode('float32', [corrected.length], corrected));
  }
}

const scales = ({ method, smoothing }: QuantizeOptions): boolean =>
  method === 'smoothquant' || method === 'awq' || smoothing !== undefined;

function covarianceOf({ moments, mean, columns }: InputStatistics): Float32Array {
  return moments!.map((v, i) => v - mean[Math.floor(i / columns)] * mean[i % columns]);
}

/** Sites in order, as many at once as their moments have room. */
function batchesOf(sites: readonly Site[]): Site[][] {
  const batches: Site[][] = [];
  let room = 0;
  for (const site of sites) {
    const bytes = site.input.columns ** 2 * 4;
    if (batches.length === 0 || bytes > room) {
      batches.push([]);
      room = MOMENT_BYTES;
    }
    batches.at(-1)!.push(site);
    room -= bytes;
  }
  return batches;
}

/** Lets other events in, so that an abort is seen. */
async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resume) => setTimeout(resume));
  signal?.throwIfAborted();
}
