import { specOf, type WeightSpec } from '../tensor/codec.ts';
import { type DimLike, dim } from '../tensor/dim.ts';
import type { DType } from '../tensor/dtype.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Node, Parameter, Program, Stage, Value } from './program.ts';

/** What a forward function is written against. Op functions (`linear(t, x, …)`) add nodes to it. */
export class Tracer {
  private readonly nodes: Node[] = [];
  private readonly stages: Stage[] = [];
  private readonly inputs: Value[] = [];
  private readonly outputs: Value[] = [];
  private readonly weights: ReadonlyMap<string, WeightSpec>;
  private values = 0;

  /** @param before a Program that this one goes on from: its values may be used, its outputs are not this one's */
  constructor(weights: ReadonlyMap<string, WeightSpec>, before?: Program) {
    this.weights = weights;
    if (!before) return;
    this.nodes.push(...before.nodes);
    this.stages.push(...before.stages);
    this.inputs.push(...before.inputs);
    const ids = [...before.inputs, ...before.nodes.flatMap((n) => n.outputs)].map(({ id }) => id);
    this.values = Math.max(-1, ...ids) + 1;
  }

  input(name: string, dtype: DType, shape: readonly DimLike[]): Value {
    const value = this.value(name, dtype, shape);
    this.inputs.push(value);
    return value;
  }

  has(name: string): boolean {
    return this.weights.has(name);
  }

  /** @throws `WEIGHT_MISSING`, or `WEIGHT_SHAPE` when `shape` is given and differs. */
  parameter(name: string, shape?: readonly number[]): Parameter {
    const spec = this.weights.get(name);
    if (!spec)
      throw new AttenuateError(
        'WEIGHT_MISSING',
        `[trace] missing weight: expected ${name}${shape ? ` [${shape}]` : ''}, got none. Check that the configuration belongs to these weights.`,
        { name },
      );
    if (shape && (shape.length !== spec.shape.length || shape.some((d, i) => d !== spec.shape[i])))
      throw new AttenuateError(
        'WEIGHT_SHAPE',
        `[trace] wrong shape of ${name}: expected [${shape}], got [${spec.shape}]. Check that the configuration belongs to these weights.`,
        { name, expected: shape, got: spec.shape },
      );
    return { name, ...specOf(spec) };
  }

  /** Adds a node; gives its output values. */
  emit<K extends string, A>(
    kind: K,
    node: Omit<Node<K, A>, 'kind' | 'outputs'> & {
      outputs: readonly [name: string, dtype: DType, shape: readonly DimLike[]][];
    },
  ): Value[] {
    const outputs = node.outputs.map(([name, dtype, shape]) =>
      this.value(`${kind}${this.nodes.length}.${name}`, dtype, shape),
    );
    this.nodes.push({ ...node, kind, outputs });
    return outputs;
  }

  /** Everything traced inside `body` is one stage: embedding, a layer, the head. */
  stage<T>(name: string, body: () => T): T {
    const from = this.nodes.length;
    const result = body();
    this.stages.push({ name, from, to: this.nodes.length });
    return result;
  }

  output(value: Value): void {
    this.outputs.push(value);
  }

  program(): Program {
    return { inputs: this.inputs, outputs: this.outputs, nodes: this.nodes, stages: this.stages };
  }

  private value(name: string, dtype: DType, shape: readonly DimLike[]): Value {
    return { id: this.values++, name, dtype, shape: shape.map(dim) };
  }
}

/** Traces a forward function once. @param weights names, codecs and shapes of the weights it may read */
export function trace(weights: ReadonlyMap<string, WeightSpec>, forward: (t: Tracer) => void): Program {
  const tracer = new Tracer(weights);
  forward(tracer);
  return tracer.program();
}

/** Traces on top of a Program: a loss over its outputs, say. Gives all nodes, and the outputs of `body` alone. */
export function traceOn(
  before: Program,
  weights: ReadonlyMap<string, WeightSpec>,
  body: (t: Tracer) => void,
): Program {
  const tracer = new Tracer(weights, before);
  body(tracer);
  return tracer.program();
}
