import { dim } from '../../tensor/dim.ts';
import type { LinearNode } from '../ops/linear.ts';
import type { Node, Program, Value } from '../program.ts';
import { Tracer } from '../trace.ts';
import { dropout } from './dropout.ts';
import { again } from './rule.ts';
import { DROPOUT_SEED } from './training-program.ts';

/**
 * The Program with dropout where BERT has it (Devlin et al. 2019, appendix A.2): on the embedding, which is what the
 * first stage hands on, and on what each product adds to a residual stream.
 */
export function withDropout(program: Program, probability: number): Program {
  const t = new Tracer(new Map());
  const env = new Map<number, Value>();
  for (const { id, name, dtype, shape } of program.inputs) env.set(id, t.input(name, dtype, shape));
  const seed = t.input(DROPOUT_SEED, 'int32', [dim(2)]);
  let place = 0;
  const [first] = program.stages;
  const embedded = first && program.nodes[first.to - 1]?.outputs[0];
  const emit = (node: Node) => {
    const inputs = node.inputs.map((v) => env.get(v.id)!);
    const { attributes } = node as LinearNode;
    let outputs: Value[];
    if (node.kind === 'linear' && attributes.residual) {
      const plain = { ...node, attributes: { ...attributes, residual: false } } as Node;
      const [y] = again(t, plain, inputs.slice(0, -1));
      outputs = [dropout(t, y, seed, { probability, place: place++ }, inputs.at(-1)!)];
    } else outputs = again(t, node, inputs);
    if (node.outputs[0] && node.outputs[0] === embedded)
      outputs = [dropout(t, outputs[0], seed, { probability, place: place++ })];
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
