import { weightedSum } from '../../program/gradient/losses.ts';
import type { AttentionNode, Heads } from '../../program/ops/attention.ts';
import type { Program, Value } from '../../program/program.ts';
import type { Tracer } from '../../program/trace.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { TextBatch } from '../data/batches.ts';

export type Inputs = Readonly<Record<string, Int32Array | Float32Array>>;

/** What a loss may look at inside a traced encoder. */
export interface TracedEncoder {
  /** What it gives: an embedding, or probabilities. */
  readonly output: Value;
  /** What goes into the last softmax; null where there is none. */
  readonly logits: Value | null;
  /** Rows that the first layer reads, `[B, N, C]`. */
  readonly embedding: Value;
  /** Rows that a layer gives, `[B, N, C]`. */
  hidden(layer: number): Value;
  /** Queries, keys and values by head of a layer's softmax attention. */
  attention(layer: number): TracedAttention;
  readonly lengths: Value;
}

export interface TracedAttention {
  readonly queries: Heads;
  readonly keys: Heads;
  readonly values: Heads;
  readonly heads: number;
  readonly headSize: number;
}

/** What a model is trained for: a loss over what it computes, and what else that loss reads. */
export interface Objective {
  /** Weights learned beside the model's own, which fall away with the run. */
  readonly extra?: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;
  /** Traces the loss `[1]`. */
  loss(t: Tracer, model: TracedEncoder): Value;
  /** The inputs that the loss declares, for one batch. */
  inputs(batch: TextBatch): Inputs | Promise<Inputs>;
  dispose?(): void;
}

/** Finds in a traced encoder what losses look at. @throws `OBJECTIVE_LAYER` for a layer that it has not */
export function lookInside(program: Program): TracedEncoder {
  const last = (name: string): Value => {
    const stage = program.stages.find((s) => s.name === name);
    const value = stage && program.nodes[stage.to - 1].outputs[0];
    if (value) return value;
    throw new AttenuateError(
      'OBJECTIVE_LAYER',
      `[train] part that the model lacks: expected one of ${program.stages.map((s) => s.name).join(', ')}, got ${name}. Change the layer map.`,
      { name },
    );
  };
  const [output] = program.outputs;
  const maker = program.nodes.find(({ outputs }) => outputs.includes(output));
  return {
    output,
    logits: maker?.kind === 'softmax' ? maker.inputs[0] : null,
    embedding: last('embedding'),
    hidden: (layer) => last(`layer ${layer}`),
    attention: (layer) => attentionOf(program, layer),
    lengths: program.inputs.find(({ name }) => name === 'lengths')!,
  };
}

/** @throws `OBJECTIVE_LAYER` for a layer without dense softmax attention of as many heads of keys as of queries */
function attentionOf({ stages, nodes }: Program, layer: number): TracedAttention {
  const stage = stages.find(({ name }) => name === `layer ${layer}`);
  const node = nodes.slice(stage?.from ?? 0, stage?.to ?? 0).find(({ kind }) => kind === 'attention') as
    | AttentionNode
    | undefined;
  const { queries, keys, values, heads, keyHeads, headSize } = node?.attributes ?? {};
  if (
    !node ||
    !queries ||
    !keys ||
    !values ||
    !('input' in queries) ||
    !('input' in keys) ||
    keyHeads !== heads
  )
    throw new AttenuateError(
      'OBJECTIVE_LAYER',
      `[train] layer whose attention cannot be compared: expected softmax attention with as many heads of keys as of queries in layer ${layer}, got ${node ? `${heads} and ${keyHeads}` : 'none'}. Set the weights of attention and relations to 0.`,
      { layer },
    );
  const at = ({ input, from }: { readonly input: number; readonly from: number }): Heads => ({
    value: node.inputs[input],
    from,
  });
  return { queries: at(queries), keys: at(keys), values: at(values), heads: heads!, headSize: headSize! };
}

/** One row for each text of a batch, one after another. */
export function textRows(texts: readonly number[], rowOf: (text: number) => Float32Array): Float32Array {
  const rows = texts.map(rowOf);
  const all = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => {
    all.set(row, i * row.length);
  });
  return all;
}

/** A sum of objectives, each with a weight; their inputs and extra weights have names of their own. */
export function together(parts: readonly (readonly [objective: Objective, weight: number])[]): Objective {
  return {
    extra: new Map(parts.flatMap(([{ extra }]) => [...(extra ?? [])])),
    loss: (t, model) =>
      weightedSum(
        t,
        parts.map(([objective]) => objective.loss(t, model)),
        parts.map(([, weight]) => weight),
      ),
    async inputs(batch) {
      const all = await Promise.all(parts.map(([objective]) => objective.inputs(batch)));
      return Object.assign({}, ...all);
    },
    dispose() {
      for (const [objective] of parts) objective.dispose?.();
    },
  };
}
