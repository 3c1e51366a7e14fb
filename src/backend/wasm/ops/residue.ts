import type { GroupByResidueNode, UngroupByResidueNode } from '../../../program/ops/residue.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { residueKernel, residueLengthsKernel } from '../kernels/residue.ts';
import { type OpLowering, only } from '../lowering.ts';

const kernels: OpLowering['kernels'] = {
  residue: (direction) => residueKernel(direction as 'group' | 'ungroup') as Kernel,
  residueLengths: only(residueLengthsKernel),
};

export const groupByResidueLowering: OpLowering<GroupByResidueNode> = {
  kind: 'groupByResidue',
  kernels,
  keys: () => ['residue:group', 'residueLengths'],
  steps({ inputs: [x, lengths], outputs: [y, counts], attributes: { stride } }, { at, shape, step }) {
    const [G, B, N, W] = shape(x);
    const fields = { x: at(x), y: at(y), stride, N, M: shape(y)[2], width: W * 4 };
    return [
      step('residue:group', fields, G * B * stride),
      step('residueLengths', { lengths: at(lengths), out: at(counts), stride, N }, B),
    ];
  },
};

export const ungroupByResidueLowering: OpLowering<UngroupByResidueNode> = {
  kind: 'ungroupByResidue',
  kernels,
  keys: () => ['residue:ungroup'],
  steps({ inputs: [x], outputs: [y], attributes: { stride } }, { at, shape, step }) {
    const [N, W] = shape(y).slice(-2);
    const sequences = shape(y)
      .slice(0, -2)
      .reduce((a, b) => a * b, 1);
    const fields = { x: at(x), y: at(y), stride, N, M: shape(x).at(-2)!, width: W * 4 };
    return [step('residue:ungroup', fields, sequences * stride)];
  },
};
