import type { TrainingProgram } from '../program/gradient/training-program.ts';
import type { Program } from '../program/program.ts';

/** The forward part of a training Program: what it computes before it goes back, on the same kernels. */
export function forwardPart({ program }: TrainingProgram): Program {
  const back = program.stages.find(({ name }) => name.endsWith(' backward'));
  const nodes = program.nodes.slice(0, back?.from ?? program.nodes.length);
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const made = new Set(nodes.flatMap((node) => node.outputs));
  return {
    inputs: program.inputs.filter((value) => read.has(value)),
    outputs: program.outputs.filter((value) => made.has(value)),
    nodes,
    stages: program.stages.filter(({ to }) => to <= nodes.length),
  };
}
