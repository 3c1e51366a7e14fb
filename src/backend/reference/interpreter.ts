import type { ReferenceParameter, ReferenceTensor } from '../../program/op.ts';
import type { LinearAttributes } from '../../program/ops/linear.ts';
import { OPS } from '../../program/ops/registry.ts';
import type { Node, Parameter, Program } from '../../program/program.ts';
import {
  byteSize,
  codesOf,
  decode,
  elements,
  formatSpec,
  intsOf,
  isPlain,
  type Weight,
} from '../../tensor/codec.ts';
import { type Bindings, evaluateDim } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';

/** Weights by name; a `Map<string, Weight>` is one. */
export interface WeightSource {
  get(name: string): Weight | undefined;
}

/**
 * Runs a Program through each op's own float64 reference: slow, and the truth that every backend is held against.
 *
 * @param inputs row-major values by the name of the Program's input
 * @param levels codes of a dynamically quantised activation, as the backend under comparison has them
 * @param floats values in float64 that stand for weights, by name
 * @returns the Program's outputs in order, row-major
 * @throws `INPUT_MISSING`, `INPUT_SIZE`, `WEIGHT_MISSING`, `WEIGHT_SHAPE`, `DIM_UNBOUND`, `OP_UNKNOWN`, and what the ops throw
 */
export function runReference(
  program: Program,
  weights: WeightSource,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  bindings: Bindings,
  levels: 128 | 256,
  floats?: ReadonlyMap<string, Float64Array>,
): Float64Array[] {
  const { values } = execute(program, weights, inputs, bindings, levels, floats);
  return program.outputs.map((v) => values.get(v.id)!.data);
}

/**
 * As `runReference`, for a Program that has gradients: the sum of what its nodes add to each, by parameter.
 * @param floats values in float64 that stand for weights, by name: the point that finite differences move
 */
export function runTraining(
  program: Program,
  weights: WeightSource,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  bindings: Bindings,
  floats: ReadonlyMap<string, Float64Array> = new Map(),
): { readonly outputs: Float64Array[]; readonly gradients: Map<string, Float64Array> } {
  const { values, gradients } = execute(program, weights, inputs, bindings, 256, floats);
  return { outputs: program.outputs.map((v) => values.get(v.id)!.data), gradients };
}

/** As `runReference`, but every value by its name (`linear3.y`), inputs included. */
export function runReferenceAll(
  program: Program,
  weights: WeightSource,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  bindings: Bindings,
  levels: 128 | 256,
): Map<string, ReferenceTensor> {
  const { values } = execute(program, weights, inputs, bindings, levels);
  const all = [...program.inputs, ...program.nodes.flatMap((n) => n.outputs)];
  return new Map(all.map((v) => [v.name, values.get(v.id)!]));
}

function execute(
  program: Program,
  weights: WeightSource,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  bindings: Bindings,
  levels: 128 | 256,
  floats: ReadonlyMap<string, Float64Array> = new Map(),
): { values: Map<number, ReferenceTensor>; gradients: Map<string, Float64Array> } {
  const gradients = new Map<string, Float64Array>();
  const values = new Map<number, ReferenceTensor>();
  for (const value of program.inputs) {
    const shape = value.shape.map((d) => evaluateDim(d, bindings));
    values.set(value.id, { shape, data: inputData(value.name, shape, inputs[value.name]) });
  }
  const parameters = new Map<string, ReferenceParameter>();
  for (const { name, shape } of program.nodes.flatMap((n) => n.parameters)) {
    const data = floats.get(name);
    if (data) parameters.set(`floats ${name}`, { shape, data });
  }
  const lastUse = new Map(program.nodes.flatMap((node) => node.parameters.map(({ name }) => [name, node])));
  for (const node of program.nodes) {
    const op = OPS.get(node.kind);
    if (!op)
      throw new AttenuateError(
        'OP_UNKNOWN',
        `[reference] op without a reference: expected one of ${[...OPS.keys()].join(', ')}, got ${node.kind}. Register the op.`,
        { kind: node.kind },
      );
    const outputShapes = node.outputs.map((v) => v.shape.map((d) => evaluateDim(d, bindings)));
    const results = op.reference(node, {
      inputs: node.inputs.map((v) => values.get(v.id)!),
      parameters: node.parameters.map((p, i) => parameterOf(p, wantsCodes(node, i), weights, parameters)),
      outputShapes,
      bindings,
      levels,
    });
    node.outputs.forEach((v, i) => {
      values.set(v.id, { shape: outputShapes[i], data: results[i] });
    });
    // In float64 a weight takes many times its stored bytes.
    for (const { name } of node.parameters)
      if (lastUse.get(name) === node)
        for (const kind of ['codes', 'floats']) parameters.delete(`${kind} ${name}`);
    node.gradients?.forEach(({ name }, i) => {
      const added = results[node.outputs.length + i];
      const before = gradients.get(name);
      gradients.set(name, before ? before.map((x, j) => x + added[j]) : added);
    });
    node.sets?.forEach(({ name, shape }, i) => {
      const data = results[node.outputs.length + (node.gradients?.length ?? 0) + i];
      parameters.set(`floats ${name}`, { shape, data });
    });
  }
  return { values, gradients };
}

function inputData(name: string, shape: readonly number[], given?: ArrayLike<number>): Float64Array {
  if (!given)
    throw new AttenuateError(
      'INPUT_MISSING',
      `[reference] missing input: expected ${name} [${shape}], got none. Pass a value for each input.`,
      { name, shape },
    );
  if (given.length !== elements(shape))
    throw new AttenuateError(
      'INPUT_SIZE',
      `[reference] input ${name} of another size: expected ${elements(shape)} values for [${shape}], got ${given.length}. Check the bindings and the data.`,
      { name, shape, got: given.length },
    );
  return Float64Array.from(given);
}

/** Whether an op reads a parameter in an integer codec as codes and scales; every other op reads what it decodes to. */
function wantsCodes(node: Node, parameter: number): boolean {
  if (isPlain(node.parameters[parameter].codec)) return false;
  if (['embedding', 'intEmbedding', 'intLinear'].includes(node.kind)) return true;
  if (node.kind !== 'linear') return false;
  const { quantized, parts } = node.attributes as LinearAttributes;
  return quantized && parameter < parts;
}

function parameterOf(
  spec: Parameter,
  codes: boolean,
  weights: WeightSource,
  known: Map<string, ReferenceParameter>,
): ReferenceParameter {
  const key = `${codes ? 'codes' : 'floats'} ${spec.name}`;
  const before = known.get(key);
  if (before) return before;
  const weight = weights.get(spec.name);
  if (!weight)
    throw new AttenuateError(
      'WEIGHT_MISSING',
      `[reference] missing weight: expected ${spec.name} [${spec.shape}], got none. Pass every weight that was traced.`,
      { name: spec.name },
    );
  if (formatSpec(weight) !== formatSpec(spec) || weight.bytes.byteLength !== byteSize(spec))
    throw new AttenuateError(
      'WEIGHT_SHAPE',
      `[reference] weight ${spec.name} is not the one traced: expected ${formatSpec(spec)} in ${byteSize(spec)} bytes, got ${formatSpec(weight)} in ${weight.bytes.byteLength}. Trace again.`,
      { name: spec.name },
    );
  const numbers = spec.codec === 'int32' ? intsOf : decode;
  const made = codes
    ? codedParameter(weight)
    : { shape: spec.shape, data: Float64Array.from(numbers(weight)) };
  known.set(key, made);
  return made;
}

function codedParameter(weight: Weight): ReferenceParameter {
  const { codes, ...quantization } = codesOf(weight);
  return { shape: weight.shape, data: Float64Array.from(codes), quantization };
}
