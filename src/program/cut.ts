import { equalDims } from '../tensor/dim.ts';
import { AttenuateError } from '../tensor/error.ts';
import type { Node, Program, Stage, Value } from './program.ts';

/** A stage taken apart where rows stop being independent of each other. */
export interface StageCut {
  /** Row-wise: rows of x → what `mixing` reads of them. Null where nothing is mixed, or x is mixed as it stands. */
  readonly before: Program | null;
  /** All rows at once: the attention. Null for a stage of row-wise ops alone. */
  readonly mixing: Program | null;
  /** Row-wise: rows of x and of what `mixing` gave → rows of the stage's output. */
  readonly after: Program;
}

/** Stages of an encoder as Programs of their own, over the same weights and kernels. */
export interface ProgramCuts {
  /** Token ids → rows. */
  readonly first: Program;
  readonly layers: readonly (StageCut & { readonly x: Value; readonly y: Value })[];
  /** Rows → the output. */
  readonly last: Program;
  /** Rows that `last` reads. */
  readonly x: Value;
}

/** Whether a value holds rows of tokens, `[B, N, c]` or, by head, `[h, B, N, c]`. */
const hasRows = ({ shape }: Value, x: Value): boolean =>
  (shape.length === 3 || shape.length === 4) &&
  equalDims(shape[shape.length - 3], x.shape[0]) &&
  equalDims(shape[shape.length - 2], x.shape[1]);

const unsupported = (what: string): AttenuateError =>
  new AttenuateError(
    'CUT_UNSUPPORTED',
    `[cut] ${what}: expected stages that hand on rows of tokens alone, got another form. Run the model whole.`,
  );

/**
 * Cuts a Program whose first stage makes rows, whose last stage reads them, and between which each stage makes rows of
 * rows. A row-wise part may be bound to N = any number of rows; no op in it knows where a row stands.
 * @throws `CUT_UNSUPPORTED` for stages that hand on anything but one float32 value of rows
 */
export function cutProgram(program: Program): ProgramCuts {
  const { stages, nodes } = program;
  const given = new Set(program.inputs);
  const isGiven = (value: Value) => given.has(value);
  const made = (stage: Stage) => new Set(nodes.slice(stage.from, stage.to).flatMap((n) => n.outputs));
  if (stages.length < 2 || program.outputs.length !== 1) throw unsupported('no first and last stage');
  /** The one value that a stage takes from the stages before it. */
  const inputOf = (stage: Stage): Value => {
    const own = made(stage);
    const read = new Set(nodes.slice(stage.from, stage.to).flatMap((n) => n.inputs));
    const [x, ...more] = [...read].filter((v) => !own.has(v) && !isGiven(v));
    if (!x || more.length || x.dtype !== 'float32' || x.shape.length !== 3)
      throw unsupported(`stage ${stage.name}`);
    return x;
  };
  const inner = stages.slice(1, -1);
  const inputs = stages.slice(1).map(inputOf);
  stages.slice(0, -1).forEach((stage, i) => {
    if (!made(stage).has(inputs[i])) throw unsupported(`stage ${stage.name}`);
  });
  const whole = ({ from, to, name }: Stage, output: Value) =>
    extract(program, new Set(nodes.slice(from, to)), [output], name);
  return {
    first: whole(stages[0], inputs[0]),
    layers: inner.map((stage, i) => ({
      ...cutStage(program, stage, inputs[i], inputs[i + 1], isGiven),
      x: inputs[i],
      y: inputs[i + 1],
    })),
    last: whole(stages[stages.length - 1], program.outputs[0]),
    x: inputs[inputs.length - 1],
  };
}

function cutStage(
  program: Program,
  stage: Stage,
  x: Value,
  y: Value,
  isGiven: (value: Value) => boolean,
): StageCut {
  const nodes = program.nodes.slice(stage.from, stage.to);
  const maker = new Map(nodes.flatMap((node) => node.outputs.map((value) => [value, node] as const)));
  const rowWise = (node: Node) =>
    node.rowWise && [...node.inputs, ...node.outputs].every((value) => hasRows(value, x));
  const mixes = new Set(nodes.filter((node) => !rowWise(node)));
  /** Nodes that a mixing node depends on. */
  const feeding = new Set<Node>();
  for (const node of [...nodes].reverse())
    if (mixes.has(node) || feeding.has(node))
      for (const value of node.inputs) if (maker.has(value)) feeding.add(maker.get(value)!);
  /** Row-wise nodes that depend on rows of x alone. */
  const fromX = new Set<Node>();
  for (const node of nodes)
    if (rowWise(node) && node.inputs.every((v) => v === x || fromX.has(maker.get(v)!))) fromX.add(node);

  const before = new Set(nodes.filter((node) => fromX.has(node) && feeding.has(node)));
  const mixing = new Set(nodes.filter((node) => mixes.has(node) || (feeding.has(node) && !fromX.has(node))));
  const after = new Set(nodes.filter((node) => !before.has(node) && !mixing.has(node)));
  // Codes do not leave the part that made them: their maker runs again where they are read.
  takeIn(mixing, maker, (value, by) => before.has(by) && value.dtype !== 'float32');
  takeIn(after, maker, (_, by) => before.has(by));
  const handedOn = (from: ReadonlySet<Node>, to: ReadonlySet<Node>) =>
    [...readFrom(to)].filter((value) => {
      const by = maker.get(value);
      return by && from.has(by) && !to.has(by);
    });
  const intoMixing = handedOn(before, mixing);
  const outOfMixing = handedOn(mixing, after);
  const outside = [...readFrom(mixing), ...readFrom(after)].filter(
    (v) => !maker.has(v) && v !== x && !isGiven(v),
  );
  const sound =
    outside.length === 0 &&
    after.has(maker.get(y)!) &&
    [...readFrom(after)].every((v) => !isGiven(v)) &&
    [...intoMixing, ...outOfMixing].every((v) => v.dtype === 'float32' && hasRows(v, x));
  if (!sound) throw unsupported(`stage ${stage.name}`);
  return {
    before: intoMixing.length ? extract(program, before, intoMixing, `${stage.name}, before`) : null,
    mixing: mixing.size ? extract(program, mixing, outOfMixing, `${stage.name}, mixing`) : null,
    after: extract(program, after, [y], `${stage.name}, after`),
  };
}

function readFrom(nodes: ReadonlySet<Node>): Set<Value> {
  return new Set([...nodes].flatMap((node) => node.inputs));
}

/** Adds the makers of values that a part may not be handed, and theirs in turn. */
function takeIn(
  part: Set<Node>,
  maker: ReadonlyMap<Value, Node>,
  wanted: (value: Value, by: Node) => boolean,
): void {
  // A Set is walked in the order of insertion, what is added on the way included.
  for (const node of part)
    for (const value of node.inputs) {
      const by = maker.get(value);
      if (by && !part.has(by) && wanted(value, by)) part.add(by);
    }
}

/** Some nodes as a Program of one stage; its inputs are what they read and do not make. */
function extract(
  { nodes, inputs }: Program,
  chosen: ReadonlySet<Node>,
  outputs: readonly Value[],
  name: string,
): Program {
  const kept = nodes.filter((node) => chosen.has(node));
  const made = new Set(kept.flatMap((node) => node.outputs));
  const read = [...readFrom(chosen)].filter((value) => !made.has(value));
  // Given inputs come first, as the whole Program has them.
  const order = [...inputs.filter((v) => read.includes(v)), ...read.filter((v) => !inputs.includes(v))];
  return { inputs: order, outputs, nodes: kept, stages: [{ name, from: 0, to: kept.length }] };
}
