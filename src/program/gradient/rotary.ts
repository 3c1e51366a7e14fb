import type { OpDefinition } from '../op.ts';
import { type RotaryAttributes, type RotaryNode, rotaryAngle } from '../ops/rotary.ts';
import type { Node } from '../program.ts';
import { addHeads } from './add-heads.ts';
import { plainRule } from './rule.ts';

/** Rows turned back: the transposed of a rotation. `[count, B, N, D′]`. */
export type RotaryGradientNode = Node<'rotaryGradient', RotaryAttributes>;

export const rotaryGradientOp: OpDefinition<RotaryGradientNode> = {
  kind: 'rotaryGradient',
  budget: { absolute: 1e-6, relative: 1e-6 },
  multiplyAdds: ({ attributes: { count, size } }, { inputs: [[, B, N]] }) => 2 * count * B * N * size,
  reference({ attributes }, { inputs: [{ data }], outputShapes: [[count, B, N, pitch]] }) {
    const { size, layout } = attributes;
    const out = new Float64Array(count * B * N * pitch);
    const half = size / 2;
    for (let row = 0; row < count * B * N; row++)
      for (let i = 0; i < half; i++) {
        const angle = (row % N) * rotaryAngle(i, attributes);
        const [a, b] = layout === 'halves' ? [i, i + half] : [2 * i, 2 * i + 1];
        const [x, y] = [data[row * pitch + a], data[row * pitch + b]];
        out[row * pitch + a] = x * Math.cos(angle) + y * Math.sin(angle);
        out[row * pitch + b] = y * Math.cos(angle) - x * Math.sin(angle);
      }
    return [out];
  },
};

export const rotaryRule = plainRule<RotaryNode>(
  'rotary',
  (t, { attributes }, { inputs: [x], gradients: [dy], sink }) => {
    if (!dy || !sink.wants(0)) return;
    const [part] = t.emit('rotaryGradient', {
      inputs: [dy],
      parameters: [],
      outputs: [['dx', 'float32', dy.shape]],
      attributes,
      rowWise: false,
    });
    sink.replace(0, addHeads(t, x.shape, sink.soFar(0), part, 0));
  },
);
