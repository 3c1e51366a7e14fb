import type { CodeSpec, IntegerSpec, Model, WeightStore } from '../../model/config.ts';
import { geluFraction } from '../../model/integer/codes.ts';
import { traceIntegerEncoder } from '../../model/integer/encoder.ts';
import { integerBiasOf, multiplierOf, tensors } from '../../model/integer/names.ts';
import { names } from '../../model/names.ts';
import { normLimit } from '../../program/ops/int-layer-norm.ts';
import {
  codesOf,
  decode,
  encode,
  encodeInt32,
  specOf,
  type Weight,
  type WeightSpec,
} from '../../tensor/codec.ts';
import {
  type Affine,
  embeddingConstants,
  int8Matrix,
  leastScale,
  normConstants,
  productConstants,
} from './constants.ts';

/** Whether a weight is int8 with a float32 scale for each row. */
const isRowwise = ({ codec, perTensor, scaleType }: WeightSpec): boolean =>
  codec === 'int8' && !perTensor && scaleType !== 'float16';

/** Makes the integer weights of a model, a product, norm or table at a time. */
export class IntegerMaker {
  /** To be run in this order, each once. */
  readonly parts: readonly (() => Promise<void>)[];
  private readonly before: Model;
  private readonly codes: Record<string, CodeSpec>;
  private readonly shifts: Record<string, number> = {};
  private readonly specs: Map<string, WeightSpec>;
  /** Weights that are made when they are read: matrices and tables. */
  private readonly encoded = new Map<string, () => Promise<Weight>>();
  private readonly made = new Map<string, Weight>();

  constructor(model: Model, codes: Record<string, CodeSpec>) {
    this.before = model;
    this.codes = codes;
    this.specs = new Map(model.weights.specs);
    const { config } = model;
    const pre = config.norm === 'pre';
    const parts: (() => Promise<void>)[] = [() => this.embedding()];
    if (this.narrow)
      parts.push(() => this.product(names.projection, tensors.narrow, codes[tensors.embedding].scale));
    if (config.embeddingNorm) parts.push(() => this.norm(names.embeddingNorm, tensors.layer(0).input));
    config.layers.forEach(({ activation, inputSize, outputSize }, i) => {
      const at = names.layer(i);
      const to = tensors.layer(i);
      const next = i + 1 < config.layers.length ? tensors.layer(i + 1).input : tensors.output;
      const before = i > 0 ? tensors.layer(i - 1).output : tensors.embedding;
      // The first product of a layer that changes the width is the residual, on codes of its own.
      const residual = inputSize === outputSize ? (pre ? before : to.input) : to.sum;
      parts.push(
        ...[at.query, at.key, at.value].map((name) => () => this.product(name, to.input, codes[name].scale)),
        () => this.product(at.output, to.context, codes[to.sum].scale, residual),
        () => this.product(at.up, to.middle, this.innerUnit(activation, codes[to.inner])),
        () => this.product(at.down, to.inner, codes[to.output].scale, pre ? to.sum : to.middle),
        () => this.norm(at.attentionNorm, pre ? to.input : to.middle),
        () => this.norm(at.feedForwardNorm, pre ? to.middle : next),
      );
      if (inputSize !== outputSize)
        parts.push(() => this.product(at.residual, pre ? to.residual : to.input, codes[to.sum].scale));
    });
    this.parts = parts;
  }

  /** Whether the embedding's tables are narrower than what its projection makes of them. */
  private get narrow(): boolean {
    const { tableSize, embeddingSize } = this.before.config;
    return (tableSize ?? embeddingSize) !== embeddingSize;
  }

  /** GELU reads its product in units of its own; ReLU is the clamp of its codes. */
  private innerUnit(activation: string, inner: CodeSpec): number {
    return activation === 'relu' ? inner.scale : 2 ** -geluFraction(inner);
  }

  private async floats(name: string): Promise<Float32Array> {
    return decode(await this.before.weights.read(name));
  }

  /** @param residual the tensor that is added, where one is */
  private async product(name: string, x: string, unit: number, residual?: string): Promise<void> {
    const weight = `${name}.weight`;
    const input = this.codes[x];
    const bias = await this.floats(`${name}.bias`);
    const encodeNow = () => this.matrix(weight, bias, input.scale);
    const { codes, scales } = codesOf(await encodeNow());
    this.encoded.set(weight, encodeNow);
    this.specs.set(weight, { codec: 'int8', shape: this.specs.get(weight)!.shape });
    const added = residual === undefined ? 0 : this.reach(residual, bias.length) / unit;
    this.affine(name, productConstants(name, { codes, scales }, bias, input, unit, added));
    this.specs.delete(`${name}.bias`);
  }

  /** The largest magnitude that a tensor can have: 255 codes, or what a sum of rows of `columns` is clamped to. */
  private reach(name: string, columns: number): number {
    const isSum = name.endsWith('sum') || name === tensors.embedding;
    return (isSum ? normLimit(columns) : 255) * this.codes[name].scale;
  }

  private async matrix(name: string, bias: Float32Array, x: number): Promise<Weight> {
    const found = await this.before.weights.read(name);
    const kept =
      isRowwise(found) && codesOf(found).scales.every((scale, row) => scale >= leastScale(bias[row], x));
    return kept ? found : int8Matrix(found.shape, decode(found), bias, x);
  }

  private async norm(name: string, to: string): Promise<void> {
    const [scale, bias] = [await this.floats(`${name}.scale`), await this.floats(`${name}.bias`)];
    this.affine(name, normConstants(name, scale, bias, this.codes[to]));
    for (const part of ['scale', 'bias']) this.specs.delete(`${name}.${part}`);
  }

  private async embedding(): Promise<void> {
    const { config } = this.before;
    const used = [
      { name: names.word, factor: config.wordScale },
      ...(config.positions > 0 ? [{ name: names.position, factor: 1 }] : []),
      ...(config.tokenTypes > 0 ? [{ name: names.tokenType, factor: 1 }] : []),
    ];
    const tables = [];
    for (const { name, factor } of used) {
      const encodeNow = async () => {
        const found = await this.before.weights.read(name);
        return isRowwise(found) ? found : encode('int8', found.shape, decode(found));
      };
      const { scales } = codesOf(await encodeNow());
      this.encoded.set(name, encodeNow);
      this.specs.set(name, { codec: 'int8', shape: this.specs.get(name)!.shape });
      tables.push({ name, scales, factor });
    }
    const { scale, shift, multipliers } = embeddingConstants(
      tables,
      config.tableSize ?? config.embeddingSize,
    );
    this.codes[this.narrow ? tensors.tables : tensors.embedding] = { scale, zeroPoint: 0 };
    this.shifts[names.word] = shift;
    for (const [name, multiplier] of multipliers) this.ints(multiplierOf(name), multiplier);
  }

  private affine(name: string, { multiplier, bias, shift }: Affine): void {
    this.ints(multiplierOf(name), multiplier);
    this.ints(integerBiasOf(name), bias);
    this.shifts[name] = shift;
  }

  private ints(name: string, values: Int32Array): void {
    const weight = encodeInt32([values.length], values);
    this.made.set(name, weight);
    this.specs.set(name, specOf(weight));
  }

  /** The integer model, of the weights that it reads. */
  model(): Model {
    const integer: IntegerSpec = { codes: this.codes, shifts: this.shifts };
    const config = { ...this.before.config, integer };
    const program = traceIntegerEncoder(config, this.specs);
    const read = new Set(program.nodes.flatMap(({ parameters }) => parameters.map(({ name }) => name)));
    const { before, encoded, made } = this;
    const weights: WeightStore = {
      specs: new Map([...this.specs].filter(([name]) => read.has(name))),
      read: async (name) => made.get(name) ?? (await encoded.get(name)?.()) ?? before.weights.read(name),
      close: before.weights.close && (() => before.weights.close!()),
    };
    return { ...before, config, weights };
  }
}
