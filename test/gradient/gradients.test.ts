import { describe, expect, it } from 'vitest';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { meanSquaredError, weightedSum } from '../../src/program/gradient/losses.ts';
import type { Program } from '../../src/program/program.ts';
import { traceOn } from '../../src/program/trace.ts';
import { evaluateDim } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { type BuiltCase, buildCase, CASES } from '../conformance/cases.ts';
import { derivatives } from './finite-differences.ts';

const DIFFERENTIABLE = [
  'activation',
  'attention',
  'embedding',
  'l2Normalize',
  'layerNorm',
  'linear',
  'pool',
  'selectRows',
  'softmax',
];

/** The case with a loss on top: the distance of every float output from a random target. */
export function withLoss({ program, inputs, bindings, weights }: BuiltCase, random: Random) {
  const targets: Record<string, Float32Array> = {};
  const whole: Program = traceOn(program, weights, (t) => {
    const losses = program.outputs
      .filter(({ dtype }) => dtype === 'float32')
      .map((y, i) => {
        const shape = y.shape.map((d) => evaluateDim(d, bindings));
        targets[`target${i}`] = random.gaussians(shape.reduce((a, b) => a * b, 1));
        return meanSquaredError(t, y, t.input(`target${i}`, 'float32', y.shape));
      });
    t.output(
      weightedSum(
        t,
        losses,
        losses.map(() => 1),
      ),
    );
  });
  return {
    whole,
    inputs: { ...inputs, ...targets },
    floats: Object.keys(inputs).filter((k) => inputs[k] instanceof Float32Array),
  };
}

const size = ({ inputs, weights }: BuiltCase) =>
  Object.values(inputs).reduce((n, x) => n + x.length, 0) +
  [...weights.values()].reduce((n, w) => n + w.bytes.length / 4, 0);

const cases = CASES.filter(
  (c) =>
    c.finite && !c.codes && DIFFERENTIABLE.includes(c.op) && !/large|denormal|zero|constant/.test(c.name),
);
describe('gradients by finite differences', () => {
  it.each(cases.map((c) => [`${c.op}: ${c.name}`, c] as const))('%s', (_, c) => {
    const built = buildCase(c);
    if (size(built) > 60000) return;
    if ([...built.weights.values()].some((w) => !w.codec.startsWith('float') && w.codec !== 'bfloat16'))
      return;
    const random = new Random(5);
    const { whole, inputs, floats } = withLoss(built, random);
    const training = differentiate(whole, { inputs: floats });
    for (const { gradient, difference, scale } of derivatives(
      whole,
      training,
      built.weights,
      inputs,
      built.bindings,
      random,
    ))
      expect(Math.abs(gradient - difference)).toBeLessThanOrEqual(1e-6 * scale + 1e-10);
  });
});
