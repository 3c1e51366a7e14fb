import type { Node, Program, Value } from '../program.ts';
import { Tracer } from '../trace.ts';

/**
 * The Program traced again, each node by `emit`, which gives the values that stand for its outputs; stages and inputs
 * stay as they are.
 * @param begin called once the inputs are there
 */
export function rewrite(
  program: Program,
  emit: (t: Tracer, node: Node, inputs: readonly Value[]) => readonly Value[],
  begin: (t: Tracer) => void = () => {},
): Program {
  const t = new Tracer(new Map());
  const env = new Map<number, Value>();
  for (const { id, name, dtype, shape } of program.inputs) env.set(id, t.input(name, dtype, shape));
  begin(t);
  let next = 0;
  const upTo = (end: number) => {
    for (; next < end; next++) {
      const node = program.nodes[next];
      const outputs = emit(
        t,
        node,
        node.inputs.map(({ id }) => env.get(id)!),
      );
      node.outputs.forEach(({ id }, i) => {
        env.set(id, outputs[i]);
      });
    }
  };
  for (const { name, from, to } of program.stages) {
    upTo(from);
    t.stage(name, () => upTo(to));
  }
  upTo(program.nodes.length);
  for (const { id } of program.outputs) t.output(env.get(id)!);
  return t.program();
}
