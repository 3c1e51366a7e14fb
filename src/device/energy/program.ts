import { cost } from '../../program/cost.ts';
import type { Program } from '../../program/program.ts';
import { isFloat } from '../../tensor/codec.ts';
import type { Bindings } from '../../tensor/dim.ts';
import type { Figure } from '../figure.ts';
import { estimateEnergy } from './estimate.ts';

/** Estimated energy of one run of a Program, from its work. */
export function programEnergy(program: Program, bindings: Bindings): Figure {
  const { byOp } = cost(program, bindings);
  const work = { float32MultiplyAdds: 0, int8MultiplyAdds: 0, weightBytes: 0, activationBytes: 0 };
  byOp.forEach((op, i) => {
    const node = program.nodes[i];
    const integer = node.kind === 'linear' && !isFloat(node.parameters[0].codec);
    work[integer ? 'int8MultiplyAdds' : 'float32MultiplyAdds'] += op.multiplyAdds;
    work.weightBytes += op.weightBytes;
    work.activationBytes += op.bytesRead - op.weightBytes + op.bytesWritten;
  });
  return estimateEnergy(work);
}
