import { describe, expect, it } from 'vitest';
import { TRAINING_OPS } from '../../src/program/gradient/definitions.ts';
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

describe('every op of training', () => {
  it('stands in the backward pass of some case', () => {
    const reached = new Set(
      gradientCases().flatMap((c) => {
        const { whole, floats } = withLoss(c, new Random(5));
        return differentiate(whole, { inputs: floats }).program.nodes.map(({ kind }) => kind);
      }),
    );
    const without = TRAINING_OPS.map(({ kind }) => kind as string).filter((kind) => !reached.has(kind));
    // Training puts these into a forward pass: encoder.test.ts and fake-quantize.test.ts hold them.
    expect(without.sort()).toEqual([
      'dropout',
      'fakeBinarize',
      'fakeQuantize',
      'fakeQuantizeRows',
      'straightThroughGradient',
    ]);
  });
});
