import { type ChosenMechanism, chooseMechanism, loadMechanisms } from '../attention/load.ts';
import type { LayerShape, Projection } from '../attention/mechanism.ts';
import { embedding } from '../program/ops/embedding.ts';
import { linear } from '../program/ops/linear.ts';
import type { Program, Value } from '../program/program.ts';
import { type Tracer, trace } from '../program/trace.ts';
import type { WeightSpec } from '../tensor/codec.ts';
import { symbol } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { EncoderConfig, LayerSpec } from './config.ts';
import { head } from './head.ts';
import { dense, norm } from './named.ts';
import { names } from './names.ts';

/** The sizes that a layer's attention has to fit; its index is that of the layer whose weights it uses. */
export const layerShape = ({ layers, maxLength }: EncoderConfig, index: number): LayerShape => ({
  index: layers[index].sharedWith ?? index,
  inputSize: layers[index].inputSize,
  heads: layers[index].heads,
  headSize: layers[index].headSize,
  maxLength,
});

/**
 * Traces an encoder with its head. Inputs: `ids [B, N]`, `types [B, N]` where it has token types, `lengths [B]`, `rows [B, P]` for masked tokens.
 * @throws `ATTENTION_UNKNOWN`, `ATTENTION_OPTION` or `ATTENTION_REFUSED` for a layer's attention that cannot be had
 */
export async function traceEncoder(
  config: EncoderConfig,
  weights: ReadonlyMap<string, WeightSpec>,
): Promise<Program> {
  const { integer } = config;
  if (integer)
    return (await import('./integer/encoder.ts')).traceIntegerEncoder({ ...config, integer }, weights);
  const mechanisms = await loadMechanisms(config.layers.map(({ attention }) => attention));
  const chosen = config.layers.map(({ attention }, i) => {
    const choice = chooseMechanism(attention, mechanisms);
    expectFit(choice, layerShape(config, i));
    return choice;
  });
  await Promise.all(chosen.map(({ mechanism, options }) => mechanism.prepare?.(options as never)));
  return trace(weights, (t) => {
    const [B, N] = [symbol('B'), symbol('N')];
    const ids = t.input('ids', 'int32', [B, N]);
    const lengths = t.input('lengths', 'int32', [B]);
    const types = config.tokenTypes > 0 ? t.input('types', 'int32', [B, N]) : null;
    let x = t.stage('embedding', () => embed(t, config, ids, types)); // [B, N, C]
    config.layers.forEach((layer, i) => {
      const attend = (h: Value) => attendWith(t, chosen[i], layerShape(config, i), h, lengths);
      x = t.stage(`layer ${i}`, () => encoderLayer(t, config, layer, i, x, attend));
    });
    t.output(t.stage('head', () => head(t, config, config.head, x, lengths)));
  });
}

/** @throws `ATTENTION_REFUSED` with the mechanism's own reason */
export function expectFit({ mechanism, options }: ChosenMechanism, layer: LayerShape): void {
  const reason = mechanism.refuse?.(layer, options as never);
  if (reason)
    throw new AttenuateError(
      'ATTENTION_REFUSED',
      `[attention] ${mechanism.kind} cannot serve layer ${layer.index}: ${reason}`,
      { kind: mechanism.kind, layer: layer.index },
    );
}

/** @throws `ATTENTION_REFUSED` for a mechanism that is made for the model's own longest sequence */
export async function expectUnbounded({ layers, maxLength }: EncoderConfig): Promise<void> {
  for (const { kind, needs } of (await loadMechanisms(layers.map(({ attention }) => attention))).values())
    if (needs.boundedLength)
      throw new AttenuateError(
        'ATTENTION_REFUSED',
        `[attention] ${kind} is made for this model's length: expected at most ${maxLength} tokens, got tilePositions. Load without it, or use dense or local.`,
        { kind, maxLength },
      );
}

/** One layer's attention by its mechanism, `[B, N, C]` → `[B, N, H·D]`. */
function attendWith(
  t: Tracer,
  { mechanism, options }: ChosenMechanism,
  layer: LayerShape,
  x: Value,
  lengths: Value,
): Value {
  const at = names.layer(layer.index);
  const project = (parts: readonly Projection[], keyHeads = layer.heads) => {
    const rows = (part: Projection) => (part === 'query' ? layer.heads : keyHeads) * layer.headSize;
    return linear(
      t,
      x,
      parts.map((part) => t.parameter(`${at[part]}.weight`, [rows(part), layer.inputSize])),
      parts.map((part) => t.parameter(`${at[part]}.bias`, [rows(part)])),
      { heads: { size: layer.headSize } },
    ); // [Σ heads, B, N, D′]
  };
  const parameter = (name: string, shape?: readonly number[]) =>
    t.parameter(`${at.attention}.${name}`, shape);
  return mechanism.lower({ t, layer, x, lengths, project, parameter }, options as never);
}

function embed(t: Tracer, config: EncoderConfig, ids: Value, types: Value | null): Value {
  const C = config.embeddingSize;
  const E = config.tableSize ?? C;
  const tables = embedding(
    t,
    ids,
    types,
    {
      word: t.parameter(names.word, [config.vocabularySize, E]),
      position: config.positions > 0 ? t.parameter(names.position, [config.positions, E]) : undefined,
      tokenType: types ? t.parameter(names.tokenType, [config.tokenTypes, E]) : undefined,
    },
    config.wordScale,
  ); // [B, N, E]
  const x = E === C ? tables : dense(t, tables, names.projection, [C, E]);
  return config.embeddingNorm ? norm(t, x, names.embeddingNorm, C, config.epsilon) : x;
}

function encoderLayer(
  t: Tracer,
  config: EncoderConfig,
  layer: LayerSpec,
  index: number,
  x: Value,
  attend: (h: Value) => Value,
): Value {
  const at = names.layer(layer.sharedWith ?? index);
  const { inputSize: C, outputSize: O, heads, headSize, feedForwardSize: F } = layer;
  const inner = heads * headSize;
  const pre = config.norm === 'pre';
  const h = pre ? norm(t, x, at.attentionNorm, C, config.epsilon) : x;
  const o = attend(h); // [B, N, H·D]
  const residual = C === O ? x : dense(t, x, at.residual, [O, C]);
  let y = dense(t, o, at.output, [O, inner], { residual });
  if (!pre) y = norm(t, y, at.attentionNorm, O, config.epsilon);
  const g = pre ? norm(t, y, at.feedForwardNorm, O, config.epsilon) : y;
  const up = dense(t, g, at.up, [F, O], { activation: layer.activation });
  const down = dense(t, up, at.down, [O, F], { residual: y });
  return pre ? down : norm(t, down, at.feedForwardNorm, O, config.epsilon);
}
