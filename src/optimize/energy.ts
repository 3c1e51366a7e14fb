import { estimateEnergy } from '../device/energy/estimate.ts';
import type { Figure } from '../device/figure.ts';
import type { Model } from '../model/config.ts';
import { traceEncoder } from '../model/encoder.ts';
import { cost } from '../program/cost.ts';
import { isFloat } from '../tensor/codec.ts';

/** Estimated energy of one text of `length` tokens, from the traced Program's work. */
export async function modelEnergy(model: Pick<Model, 'config' | 'weights'>, length: number): Promise<Figure> {
  const program = await traceEncoder(model.config, model.weights.specs);
  const { byOp } = cost(program, { B: 1, N: length, P: 1 });
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
