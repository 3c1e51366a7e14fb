import { dyadic } from '../../program/integer/dyadic.ts';
import { EXP_FRACTION } from '../../program/integer/exp.ts';
import { geluConstants } from '../../program/integer/gelu.ts';
import { UNIT_BITS } from '../../program/integer/sqrt.ts';
import { dequantize } from '../../program/ops/dequantize.ts';
import { intAttention, MOST_KEYS } from '../../program/ops/int-attention.ts';
import { intEmbedding } from '../../program/ops/int-embedding.ts';
import { intL2Normalize } from '../../program/ops/int-l2-normalize.ts';
import { intLayerNorm, normLimit } from '../../program/ops/int-layer-norm.ts';
import { type IntLinearOptions, intLinear } from '../../program/ops/int-linear.ts';
import { type IntPooling, intPool, POOL_FRACTION } from '../../program/ops/int-pool.ts';
import { requantize } from '../../program/ops/requantize.ts';
import type { Program, Value } from '../../program/program.ts';
import { type Tracer, trace } from '../../program/trace.ts';
import type { WeightSpec } from '../../tensor/codec.ts';
import { symbol } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { CodeSpec, EncoderConfig, HeadSpec, IntegerSpec, LayerSpec } from '../config.ts';
import { headOfPooled } from '../head.ts';
import { names } from '../names.ts';
import { geluFraction, IntegerCodes } from './codes.ts';
import { integerBiasOf, multiplierOf, tensors } from './names.ts';

/** Why an encoder cannot be computed in integers alone; null when it can. */
export function refuseInteger({ layers, head, maxLength }: EncoderConfig): string | null {
  const attention = layers.find(({ attention: { kind, ...options } }) => {
    const changed = Object.entries(options).filter(([name, value]) => value !== PLAIN[name]);
    return kind !== 'dense' || changed.length > 0;
  });
  if (attention) return `expected dense attention, got ${JSON.stringify(attention.attention)}`;
  if (layers.some(({ activation }) => activation === 'tanh')) return 'expected GELU or ReLU, got tanh';
  if (layers.length === 0) return 'expected at least one layer, got none';
  if (maxLength > MOST_KEYS) return `expected at most ${MOST_KEYS} tokens, got ${maxLength}`;
  if (poolingOf(head) === null)
    return `expected a head over a mean, the first or the largest row, got ${JSON.stringify(head)}`;
  return null;
}

type PooledHead = Exclude<HeadSpec, { kind: 'maskedToken' }>;

/** Options of dense attention that change nothing. */
const PLAIN: Readonly<Record<string, unknown>> = { precision: 'float32', position: 'none', softcap: 0 };

/** How a head pools; of what is brought to length 1 at once, a sum by √n is a mean. */
function poolingOf(head: HeadSpec): IntPooling | null {
  if (head.kind === 'maskedToken') return null;
  if (head.kind === 'classification') return 'first';
  if (head.pooling === 'sqrtMean') return head.normalize && !head.dense ? 'mean' : null;
  return head.pooling;
}

/**
 * As `traceEncoder`, in integers from the embedding to the pooled rows (Kim et al. 2021, I-BERT, figure 1): products of
 * int8 codes, sums and residuals in int32, nothing in floating point. What is left of the head after pooling is
 * integer too where it is nothing but an L2 norm; its last op makes floats.
 * @throws `INTEGER_REFUSED`, `INTEGER_CONFIG`, `INTEGER_RANGE`
 */
export function traceIntegerEncoder(
  config: EncoderConfig & { readonly integer: IntegerSpec },
  weights: ReadonlyMap<string, WeightSpec>,
): Program {
  const refused = refuseInteger(config);
  if (refused)
    throw new AttenuateError(
      'INTEGER_REFUSED',
      `[integer] a model that cannot be computed in integers alone: ${refused}. Leave it in floating point.`,
    );
  return trace(weights, (t) => new IntegerEncoder(t, config).trace());
}

class IntegerEncoder {
  private readonly t: Tracer;
  private readonly config: EncoderConfig;
  private readonly integer: IntegerCodes;

  constructor(t: Tracer, config: EncoderConfig & { readonly integer: IntegerSpec }) {
    this.t = t;
    this.config = config;
    this.integer = new IntegerCodes(config.integer);
  }

  trace(): void {
    const { t, config } = this;
    const [B, N] = [symbol('B'), symbol('N')];
    const ids = t.input('ids', 'int32', [B, N]);
    const lengths = t.input('lengths', 'int32', [B]);
    const types = config.tokenTypes > 0 ? t.input('types', 'int32', [B, N]) : null;
    let x = t.stage('embedding', () => this.embed(ids, types));
    config.layers.forEach((layer, i) => {
      x = t.stage(`layer ${i}`, () => this.layer(layer, i, x, lengths));
    });
    t.output(t.stage('head', () => this.head(x, lengths)));
  }

  private table(name: string, rows: number) {
    const { tableSize, embeddingSize } = this.config;
    return {
      codes: this.t.parameter(name, [rows, tableSize ?? embeddingSize]),
      multiplier: this.t.parameter(multiplierOf(name), [rows]),
    };
  }

  /** Post-norm: codes of the first layer's input; pre-norm: the sum that residuals are added to. */
  private embed(ids: Value, types: Value | null): Value {
    const { t, integer, config } = this;
    const { vocabularySize, positions, tokenTypes, embeddingNorm, norm, embeddingSize: C } = config;
    const E = config.tableSize ?? C;
    const tables = intEmbedding(
      t,
      ids,
      types,
      {
        word: this.table(names.word, vocabularySize),
        position: positions > 0 ? this.table(names.position, positions) : undefined,
        tokenType: types ? this.table(names.tokenType, tokenTypes) : undefined,
      },
      integer.shift(names.word),
    ); // [B, N, E]
    const x =
      E === C
        ? tables
        : this.product(this.requantize(tables, tensors.tables, tensors.narrow), names.projection, [C, E], {
            output: { kind: 'sum', limit: normLimit(C) },
          });
    if (embeddingNorm === (norm === 'pre'))
      throw new AttenuateError(
        'INTEGER_REFUSED',
        `[integer] an embedding of another form: expected a norm behind it where layers end in one, and none where they begin with one, got ${norm}-norm layers ${embeddingNorm ? 'with' : 'without'} it. Leave the model in floating point.`,
      );
    return embeddingNorm ? this.norm(x, tensors.embedding, names.embeddingNorm, tensors.layer(0).input) : x;
  }

  /** LayerNorm of the sum `from`, to codes `to`. */
  private norm(x: Value, from: string, name: string, to: string): Value {
    const { t, integer, config } = this;
    const C = t.parameter(multiplierOf(name)).shape[0];
    const scale = integer.scale(from);
    const epsilon = Math.round((config.epsilon * C) / (scale * scale));
    if (!(epsilon < 2 ** 53))
      throw new AttenuateError(
        'INTEGER_RANGE',
        `[integer] ε of ${name} beyond 53 bits: expected a scale above ${Math.sqrt((config.epsilon * C) / 2 ** 53)}, got ${scale}. Make the integer model again.`,
        { name, scale },
      );
    return intLayerNorm(t, x, t.parameter(multiplierOf(name), [C]), t.parameter(integerBiasOf(name), [C]), {
      epsilon,
      shift: integer.shift(name),
      zeroPoint: integer.codes(to).zeroPoint,
    });
  }

  private product(
    x: Value,
    name: string,
    [C, K]: readonly [number, number],
    options: Omit<IntLinearOptions, 'shift'>,
  ): Value {
    const { t, integer } = this;
    return intLinear(
      t,
      x,
      {
        weight: t.parameter(`${name}.weight`, [C, K]),
        bias: t.parameter(integerBiasOf(name), [C]),
        multiplier: t.parameter(multiplierOf(name), [C]),
      },
      { shift: integer.shift(name), ...options },
    );
  }

  private layer(layer: LayerSpec, index: number, x: Value, lengths: Value): Value {
    const { integer, config } = this;
    const at = names.layer(index);
    const to = tensors.layer(index);
    const { inputSize: C, outputSize: O, heads, headSize, feedForwardSize: F } = layer;
    const inner = heads * headSize;
    const pre = config.norm === 'pre';
    const last = index === config.layers.length - 1;
    const before = index === 0 ? tensors.embedding : tensors.layer(index - 1).output;
    const next = last ? tensors.output : tensors.layer(index + 1).input;
    const sum = { kind: 'sum', limit: normLimit(O) } as const;

    const h = pre ? this.norm(x, before, at.attentionNorm, to.input) : x;
    const o = this.attend(layer, index, h, lengths);
    const residual =
      C === O
        ? { value: x, from: pre ? before : to.input }
        : { value: this.projected(layer, index, x, pre ? before : to.input), from: to.sum };
    const y = this.product(o, at.output, [O, inner], {
      output: sum,
      residual: this.residual(residual.value, residual.from, to.sum),
    });
    const g = this.norm(y, to.sum, pre ? at.feedForwardNorm : at.attentionNorm, to.middle);
    const codes = integer.codes(to.inner);
    const up = this.product(g, at.up, [F, O], this.activation(layer, codes));
    const kept = pre ? { value: y, from: to.sum } : { value: g, from: to.middle };
    const down = this.product(up, at.down, [O, F], {
      output: sum,
      residual: this.residual(kept.value, kept.from, to.output),
    });
    if (!pre) return this.norm(down, to.output, at.feedForwardNorm, next);
    return last ? this.requantize(down, to.output, tensors.output) : down;
  }

  /** [B, N, C] codes → [B, N, H·D] codes */
  private attend({ heads, headSize, inputSize }: LayerSpec, index: number, x: Value, lengths: Value): Value {
    const { integer } = this;
    const at = names.layer(index);
    const to = tensors.layer(index);
    const [queries, keys, values] = [at.query, at.key, at.value].map((name) =>
      this.product(x, name, [heads * headSize, inputSize], {
        output: { kind: 'codes', zeroPoint: 0, low: -128 },
      }),
    );
    const [query, key, value] = [to.query, to.key, to.value].map((name) => integer.scale(name));
    const context = integer.codes(to.context);
    return intAttention(
      this.t,
      { queries, keys, values, lengths },
      {
        heads,
        headSize,
        score: dyadic(((query * key) / Math.sqrt(headSize)) * Math.LOG2E * 2 ** EXP_FRACTION),
        value: dyadic(value / context.scale, 15),
        zeroPoint: context.zeroPoint,
      },
    );
  }

  /** The residual of a layer that changes the width, at the scale of its first sum. */
  private projected({ inputSize, outputSize }: LayerSpec, index: number, x: Value, from: string): Value {
    const to = tensors.layer(index);
    const codes = x.dtype === 'int8' ? x : this.requantize(x, from, to.residual);
    return this.product(codes, names.layer(index).residual, [outputSize, inputSize], {
      output: { kind: 'sum', limit: normLimit(outputSize) },
    });
  }

  private residual(value: Value, from: string, to: string): IntLinearOptions['residual'] {
    const { scale, zeroPoint } = this.integer.codes(from);
    return { value, ...dyadic(scale / this.integer.scale(to)), zeroPoint };
  }

  private requantize(x: Value, from: string, to: string): Value {
    const { scale, zeroPoint } = this.integer.codes(to);
    return requantize(this.t, x, { ...dyadic(this.integer.scale(from) / scale), zeroPoint });
  }

  private activation({ activation }: LayerSpec, codes: CodeSpec): Omit<IntLinearOptions, 'shift'> {
    const { scale, zeroPoint } = codes;
    if (activation === 'relu') return { output: { kind: 'codes', zeroPoint, low: zeroPoint } };
    const constants = geluConstants(geluFraction(codes));
    return {
      output: { kind: 'codes', zeroPoint, low: -128 },
      gelu: { ...constants, ...dyadic(constants.scale / scale) },
    };
  }

  private head(x: Value, lengths: Value): Value {
    const { t, config, integer } = this;
    const { scale, zeroPoint } = integer.codes(tensors.output);
    const pooled = intPool(t, x, lengths, { pooling: poolingOf(config.head)!, zeroPoint }); // [B, C]
    const { head } = config;
    if (head.kind === 'embedding' && !head.dense && head.normalize)
      return dequantize(t, intL2Normalize(t, pooled), 2 ** -UNIT_BITS);
    return headOfPooled(t, config, head as PooledHead, dequantize(t, pooled, scale / 2 ** POOL_FRACTION));
  }
}
