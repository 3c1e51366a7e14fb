import type { OpDefinition } from '../op.ts';
import {
  type GroupByResidueNode,
  groupByResidueOp,
  type ResidueAttributes,
  type UngroupByResidueNode,
  ungroupByResidue,
} from '../ops/residue.ts';
import type { Node } from '../program.ts';
import { plainRule } from './rule.ts';

/** Rows `[…, B, N, W]` by class, as `groupByResidue` puts them, without the lengths: the gradient of putting them back. */
export type RegroupByResidueNode = Node<'regroupByResidue', ResidueAttributes>;

export const regroupByResidueOp: OpDefinition<RegroupByResidueNode> = {
  kind: 'regroupByResidue',
  budget: { absolute: 0, relative: 0 },
  multiplyAdds: () => 0,
  reference(node, context) {
    const [y] = context.inputs;
    const [B, N, W] = y.shape.slice(-3);
    const [classes, rows] = context.outputShapes[0].slice(-3);
    const G = y.data.length / (B * N * W);
    const x = { data: y.data, shape: [G, B, N, W] };
    const lengths = { data: new Float64Array(B).fill(N), shape: [B] };
    const outputShapes = [[G, classes, rows, W], [classes]];
    const forward = { ...context, inputs: [x, lengths], outputShapes };
    return groupByResidueOp.reference(node as unknown as GroupByResidueNode, forward).slice(0, 1);
  },
};

export const groupByResidueRule = plainRule<GroupByResidueNode>(
  'groupByResidue',
  (t, { attributes: { stride } }, { gradients: [dy], sink }) => {
    if (dy && sink.wants(0)) sink.add(0, ungroupByResidue(t, dy, stride));
  },
);

export const ungroupByResidueRule = plainRule<UngroupByResidueNode>(
  'ungroupByResidue',
  (t, { attributes }, { inputs: [x], gradients: [dy], sink }) => {
    if (!dy || !sink.wants(0)) return;
    const [dx] = t.emit('regroupByResidue', {
      inputs: [dy],
      parameters: [],
      outputs: [['dx', 'float32', x.shape]],
      attributes,
      rowWise: false,
    });
    sink.add(0, dx);
  },
);
