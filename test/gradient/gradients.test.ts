import { describe, expect, it } from 'vitest';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { Random } from '../../src/tensor/random.ts';
import { gradientCases, withLoss } from './cases.ts';
import { derivatives } from './finite-differences.ts';

describe('gradients by finite differences', () => {
  it.each(gradientCases().map((c) => [`${c.op}: ${c.name}`, c] as const))('%s', (_, c) => {
    const { built } = c;
    const random = new Random(5);
    const { whole, inputs, floats } = withLoss(c, random);
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
