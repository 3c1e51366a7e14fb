import { dim } from '../../tensor/dim.ts';
import type { LinearNode } from '../ops/linear.ts';
import type { Node, Program, Value } from '../program.ts';
import { dropout } from './dropout.ts';
import { rewrite } from './rewrite.ts';
import { again } from './rule.ts';
import { DROPOUT_SEED } from './training-program.ts';

/**
 * The Program with dropout where BERT has it (Devlin et al. 2019, appendix A.2): on the embedding, which is what the
 * first stage hands on, and on what each product adds to a residual stream.
 */
export function withDropout(program: Program, probability: number): Program {
  let seed!: Value;
  let place = 0;
  const [first] = program.stages;
  const embedded = first && program.nodes[first.to - 1];
  return rewrite(
    program,
    (t, node, inputs) => {
      const { attributes } = node as LinearNode;
      const options = () => ({ probability, place: place++ });
      if (node.kind === 'linear' && attributes.residual) {
        const plain = { ...node, attributes: { ...attributes, residual: false } } as Node;
        const [y] = again(t, plain, inputs.slice(0, -1));
        return [dropout(t, y, seed, options(), inputs.at(-1)!)];
      }
      const outputs = again(t, node, inputs);
      return node === embedded ? [dropout(t, outputs[0], seed, options())] : outputs;
    },
    (t) => {
      seed = t.input(DROPOUT_SEED, 'int32', [dim(2)]);
    },
  );
}
