import { dim, formatShape } from '../../tensor/dim.ts';
import { AttenuateError } from '../../tensor/error.ts';
import type { Node, Parameter, Program, Value } from '../program.ts';
import { Tracer } from '../trace.ts';
import { add } from './add.ts';
import { withoutDead } from './dead.ts';
import { rewrite } from './rewrite.ts';
import { again, type Emitted, type GradientSink, notDifferentiable } from './rule.ts';
import { EXPANSIONS, RULES } from './rules.ts';
import { type DifferentiateOptions, LOSS_SCALE, type TrainingProgram } from './training-program.ts';
import { withDropout } from './with-dropout.ts';

/** A node on the tape: what it reads in the Program given, and its backward part. */
interface Taped {
  readonly node: Node;
  readonly emitted: Emitted;
}

/** Nodes of one stage, or those between two stages. */
interface Part {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/**
 * Reverse mode over a Program whose first output is a loss of one element. The result computes what the Program did,
 * keeps what its backward pass needs, and adds to each trained parameter's gradient; segments that are not kept are
 * computed again by the same nodes, so that every gradient is the same to the bit (Chen et al. 2016, section 3).
 * @throws `NOT_DIFFERENTIABLE` naming the op that a gradient would have to flow through; `LOSS_SHAPE`
 */
export function differentiate(given: Program, options: DifferentiateOptions = {}): TrainingProgram {
  const whole = withoutDead(expanded(options.dropout ? withDropout(given, options.dropout) : given));
  const trainable = options.trainable ?? (() => true);
  const segments = checkSegments(whole, options.segments ?? []);
  expectLoss(whole);
  const reached = reach(whole, trainable, options.inputs ?? []);
  const t = new Tracer(new Map());
  const env = new Map<number, Value>();
  for (const { id, name, dtype, shape } of whole.inputs) env.set(id, t.input(name, dtype, shape));
  const scale = t.input(LOSS_SCALE, 'float32', [dim(1)]);
  const totals = new Map<number, Value>();
  const trains = (p: Parameter) => trainable(p.name);

  const forward = ({ name, from, to }: Part, suffix = ''): Taped[] =>
    t.stage(name + suffix, () =>
      whole.nodes.slice(from, to).map((node) => {
        const rule = RULES.get(node.kind);
        const flows = node.outputs.some(({ id }) => reached.has(id));
        if (!rule && flows) notDifferentiable(node.kind, 'for which there is no rule');
        const inputs = node.inputs.map(({ id }) => env.get(id)!);
        const emitted = flows ? rule!.emit(t, node, inputs, trains) : untouched(t, node, inputs);
        node.outputs.forEach(({ id }, i) => {
          env.set(id, emitted.outputs[i]);
        });
        return { node, emitted };
      }),
    );
  const backward = ({ name }: Part, tape: readonly Taped[]) =>
    t.stage(`${name} backward`, () => {
      for (const { node, emitted } of [...tape].reverse()) {
        const gradients = node.outputs.map(({ id }) => totals.get(id) ?? null);
        if (gradients.some((g) => g)) emitted.backward(gradients, sinkOf(node));
      }
    });
  const sinkOf = ({ inputs }: Node): GradientSink => ({
    wants: (i) => reached.has(inputs[i].id),
    soFar: (i) => totals.get(inputs[i].id) ?? null,
    add(i, gradient) {
      const before = totals.get(inputs[i].id);
      totals.set(inputs[i].id, before ? add(t, before, gradient) : gradient);
    },
    replace: (i, total) => totals.set(inputs[i].id, total),
  });

  const parts = partsOf(whole);
  const segmentOf = (part: Part) => {
    const stage = whole.stages.findIndex(({ from, to }) => part.from >= from && part.to <= to);
    return segments.filter((s) => stage >= 0 && stage >= s).length;
  };
  const isAgain = (part: Part) => segmentOf(part) > 0 && segmentOf(part) < segments.length;
  const tapes = parts.map((part) => {
    const tape = forward(part);
    return isAgain(part) ? null : tape;
  });
  for (const { id } of whole.outputs) t.output(env.get(id)!);
  totals.set(whole.outputs[0].id, scale);
  for (let p = parts.length - 1; p >= 0; ) {
    let first = p;
    if (!tapes[p]) {
      while (first > 0 && !tapes[first - 1] && segmentOf(parts[first - 1]) === segmentOf(parts[p])) first--;
      for (let i = first; i <= p; i++) tapes[i] = forward(parts[i], ' again');
    }
    for (; p >= first; p--) {
      backward(parts[p], tapes[p]!);
      tapes[p] = null;
    }
  }
  const inputGradients = new Map<string, Value>();
  for (const name of options.inputs ?? []) {
    const total = totals.get(whole.inputs.find((v) => v.name === name)?.id ?? -1);
    if (!total) continue;
    inputGradients.set(name, total);
    t.output(total);
  }
  const program = withoutDead(t.program());
  return { program, inputGradients, segments, ...parametersOf(program) };
}

/** The Program with ops in parts where they are trained in parts. */
const expanded = (program: Program): Program =>
  program.nodes.some(({ kind }) => EXPANSIONS.has(kind))
    ? rewrite(program, (t, node, inputs) => (EXPANSIONS.get(node.kind) ?? again)(t, node, inputs))
    : program;

/** A node that no gradient flows through. */
function untouched(t: Tracer, node: Node, inputs: readonly Value[]): Emitted {
  return { outputs: again(t, node, inputs), backward: () => {} };
}

/** Stages, and what stands between them. */
function partsOf({ nodes, stages }: Program): Part[] {
  const parts: Part[] = [];
  let next = 0;
  for (const stage of stages) {
    if (stage.from > next) parts.push({ name: 'between', from: next, to: stage.from });
    parts.push(stage);
    next = stage.to;
  }
  if (nodes.length > next) parts.push({ name: 'loss', from: next, to: nodes.length });
  return parts;
}

/** Values that something trained lies behind. */
function reach(
  program: Program,
  trainable: (name: string) => boolean,
  inputs: readonly string[],
): Set<number> {
  const reached = new Set(program.inputs.filter(({ name }) => inputs.includes(name)).map(({ id }) => id));
  for (const { inputs: from, parameters, outputs } of program.nodes)
    if (from.some(({ id }) => reached.has(id)) || parameters.some(({ name }) => trainable(name)))
      for (const { id, dtype } of outputs) if (dtype === 'float32') reached.add(id);
  return reached;
}

function parametersOf({ nodes }: Program): Pick<TrainingProgram, 'trainable' | 'frozen'> {
  const trained = new Set(nodes.flatMap((n) => n.gradients ?? []).map(({ name }) => name));
  const all = new Map(
    nodes.flatMap((n) => [...n.parameters, ...(n.gradients ?? [])]).map((p) => [p.name, p]),
  );
  const list = [...all.values()];
  return {
    trainable: list.filter(({ name }) => trained.has(name)),
    frozen: list.filter(({ name }) => !trained.has(name)),
  };
}

function checkSegments({ stages }: Program, segments: readonly number[]): readonly number[] {
  if (segments.some((s, i) => !Number.isInteger(s) || s < (segments[i - 1] ?? -1) + 1 || s >= stages.length))
    throw new AttenuateError(
      'SEGMENTS',
      `[gradient] segments that do not ascend through the stages: expected whole numbers below ${stages.length}, got ${segments.join(', ')}. Let \`chooseSegments\` find them.`,
      { segments, stages: stages.length },
    );
  return segments;
}

function expectLoss({ outputs: [loss] }: Program): void {
  if (loss?.dtype !== 'float32' || formatShape(loss.shape) !== '[1]')
    throw new AttenuateError(
      'LOSS_SHAPE',
      `[gradient] first output that is no loss: expected float32 [1], got ${loss ? `${loss.dtype} ${formatShape(loss.shape)}` : 'none'}. Output the loss first.`,
    );
}
