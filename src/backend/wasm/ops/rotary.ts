import {
  type RotaryAttributes,
  type RotaryLayout,
  type RotaryNode,
  rotaryAngle,
} from '../../../program/ops/rotary.ts';
import type { Node } from '../../../program/program.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { rotaryKernel, rotaryRun } from '../kernels/rotary.ts';
import type { OpLowering } from '../lowering.ts';

const keyOf = ({ size, layout }: RotaryAttributes): string => `rotary:${size}:${layout}`;

/**
 * Cosines, then sines, of each position: `[N, 2, run]`; in pairs the sine of a pair's first column is negative. A
 * direction of −1 turns back.
 */
function factors(attributes: RotaryAttributes, N: number, direction: 1 | -1): Int32Array {
  const { size, layout } = attributes;
  const run = rotaryRun(size, layout);
  const out = new Float32Array(N * 2 * run);
  const angles = Array.from({ length: size / 2 }, (_, i) => rotaryAngle(i, attributes));
  for (let n = 0; n < N; n++)
    angles.forEach((angle, i) => {
      const [cosine, sine] = [Math.cos(n * angle), direction * Math.sin(n * angle)];
      const row = n * 2 * run;
      if (layout === 'halves') {
        out[row + i] = cosine;
        out[row + run + i] = sine;
        return;
      }
      out.fill(cosine, row + 2 * i, row + 2 * i + 2);
      out[row + run + 2 * i] = -sine;
      out[row + run + 2 * i + 1] = sine;
    });
  return new Int32Array(out.buffer);
}

/** The lowering of a rotation, or of its transposed. */
export const rotaryLoweringOf = (
  kind: string,
  direction: 1 | -1,
): OpLowering<Node<string, RotaryAttributes>> => ({
  kind,
  kernels: {
    rotary: (variant) => {
      const [size, layout] = variant.split(':');
      return rotaryKernel(Number(size), layout as RotaryLayout) as unknown as Kernel;
    },
  },
  keys: ({ attributes }) => [keyOf(attributes)],
  steps({ attributes, inputs: [x], outputs: [y] }, { at, shape, step, table }) {
    const [count, B, N] = shape(y);
    const { size, base, layout } = attributes;
    const fields = {
      x: at(x),
      y: at(y),
      table: table(`${kind}:${size}:${base}:${layout}:${N}`, () => factors(attributes, N, direction)),
      N,
    };
    return [step(keyOf(attributes), fields, count * B * N)];
  },
});

export const rotaryLowering = rotaryLoweringOf('rotary', 1) as OpLowering<RotaryNode>;
