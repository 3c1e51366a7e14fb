import type { Node, Program, Stage } from '../program.ts';

/** The Program without the nodes that neither an output, a gradient nor a parameter comes of. */
export function withoutDead(program: Program): Program {
  const read = new Set(program.outputs.map(({ id }) => id));
  const live = new Set<Node>();
  for (const node of [...program.nodes].reverse()) {
    if (!node.gradients?.length && !node.sets?.length && !node.outputs.some(({ id }) => read.has(id)))
      continue;
    live.add(node);
    for (const { id } of node.inputs) read.add(id);
  }
  const before = [0];
  for (const node of program.nodes) before.push(before.at(-1)! + (live.has(node) ? 1 : 0));
  const stages = program.stages.map(
    ({ name, from, to }): Stage => ({ name, from: before[from], to: before[to] }),
  );
  return {
    inputs: program.inputs.filter(({ id }) => read.has(id)),
    outputs: program.outputs,
    nodes: program.nodes.filter((node) => live.has(node)),
    stages: stages.filter(({ from, to }) => to > from),
  };
}
