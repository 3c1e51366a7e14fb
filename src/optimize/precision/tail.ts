import type { Program, Value } from '../../program/program.ts';

/** Values that a stage, or one after it, reads from before it; the Program's own inputs are not among them. */
export function crossing({ nodes, stages, inputs, outputs }: Program, stage: number): Value[] {
  const { from } = stages[stage];
  const given = new Set(inputs);
  const made = new Set(nodes.slice(from).flatMap((node) => node.outputs));
  const read = new Set([...nodes.slice(from).flatMap((node) => node.inputs), ...outputs]);
  return [...read].filter((value) => !made.has(value) && !given.has(value));
}

/** The nodes of a Program from a stage on, up to those that `outputs` need; what they read and do not make are its inputs. */
export function tailOf({ nodes, stages }: Program, stage: number, outputs: readonly Value[]): Program {
  const { from } = stages[stage];
  const last = nodes.findLastIndex((node) => node.outputs.some((value) => outputs.includes(value)));
  const kept = nodes.slice(from, last + 1);
  const made = new Set(kept.flatMap((node) => node.outputs));
  const read = new Set([...kept.flatMap((node) => node.inputs), ...outputs]);
  return {
    inputs: [...read].filter((value) => !made.has(value)),
    outputs,
    nodes: kept,
    stages: stages
      .slice(stage)
      .filter((s) => s.from <= last)
      .map((s) => ({ name: s.name, from: s.from - from, to: Math.min(s.to, last + 1) - from })),
  };
}
