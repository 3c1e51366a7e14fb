import { isPlain, type WeightSpec } from '../../tensor/codec.ts';
import { fakeBinarize } from '../ops/fake-binarize.ts';
import { type FakeQuantizeAttributes, fakeQuantize } from '../ops/fake-quantize.ts';
import { fakeQuantizeRows } from '../ops/fake-quantize-rows.ts';
import type { LinearNode } from '../ops/linear.ts';
import type { Node, Parameter, Program, Value } from '../program.ts';
import { Tracer } from '../trace.ts';
import { again } from './rule.ts';
import type { TrainingProgram } from './training-program.ts';

/** How the weights of a model in training will be stored, by name; names that are not in it stay as they are. */
export type StoredSpecs = ReadonlyMap<string, WeightSpec>;

const coded = (specs: StoredSpecs, name: string): WeightSpec | null => {
  const spec = specs.get(name);
  return spec && !isPlain(spec.codec) ? spec : null;
};

/**
 * The Program as the stored model will run it: inputs of products whose weights will be integers as their codes stand
 * for them, by the same rule as `linear` has: `<product>.inputBinary` makes signs of them, `<product>.inputRange` gives
 * all rows one range, else each row has its own. Both are weights, and are trained where they may be.
 */
export function withFakeInputs(program: Program, specs: StoredSpecs): Program {
  const t = new Tracer(specs);
  const env = new Map<number, Value>();
  const made = new Map<string, Value>();
  for (const { id, name, dtype, shape } of program.inputs) env.set(id, t.input(name, dtype, shape));
  const faked = (x: Value, weight: string): Value => {
    const product = weight.replace(/\.weight$/, '');
    const companion = (what: string): Parameter | undefined => {
      const name = `${product}.${what}`;
      return specs.has(name) ? { name, codec: 'float32', shape: [2] } : undefined;
    };
    const [binary, range] = [companion('inputBinary'), companion('inputRange')];
    const key = `${x.id} ${(binary ?? range)?.name ?? ''}`;
    const y = made.get(key) ?? (binary ? fakeBinarize(t, x, binary) : fakeQuantizeRows(t, x, range));
    made.set(key, y);
    return y;
  };
  const emit = (node: Node) => {
    const inputs = node.inputs.map((v) => env.get(v.id)!);
    if (node.kind === 'linear' && coded(specs, (node as LinearNode).parameters[0].name))
      inputs[0] = faked(inputs[0], node.parameters[0].name);
    const outputs = again(t, node, inputs);
    node.outputs.forEach((v, i) => {
      env.set(v.id, outputs[i]);
    });
  };
  let next = 0;
  for (const { name, from, to } of program.stages) {
    for (; next < from; next++) emit(program.nodes[next]);
    t.stage(name, () => {
      for (; next < to; next++) emit(program.nodes[next]);
    });
  }
  for (; next < program.nodes.length; next++) emit(program.nodes[next]);
  for (const v of program.outputs) t.output(env.get(v.id)!);
  return t.program();
}

/**
 * The training Program in which every node reads weights as they will be stored, and gradients are added to the
 * weights themselves: straight through. A stage in front sets what the others read.
 */
export function withFakeWeights(
  training: TrainingProgram,
  specs: StoredSpecs,
  options: Omit<FakeQuantizeAttributes, 'spec'> = {},
): TrainingProgram {
  const { program } = training;
  const read = new Map(program.nodes.flatMap((n) => n.parameters).map((p) => [p.name, p]));
  const t = new Tracer(new Map());
  const stored = new Map<string, Parameter>();
  t.stage('store weights', () => {
    for (const [name, parameter] of read) {
      const spec = coded(specs, name);
      if (spec) stored.set(name, fakeQuantize(t, parameter, spec, options));
    }
  });
  const front = t.program();
  const shift = front.nodes.length;
  const nodes = program.nodes.map((node) => ({
    ...node,
    parameters: node.parameters.map((p) => stored.get(p.name) ?? p),
  }));
  const stages = program.stages.map(({ name, from, to }) => ({ name, from: from + shift, to: to + shift }));
  return {
    ...training,
    program: { ...program, nodes: [...front.nodes, ...nodes], stages: [...front.stages, ...stages] },
  };
}
