import { describe, expect, it } from 'vitest';
import { runTraining } from '../../src/backend/reference/interpreter.ts';
import { TRAINING_OPS } from '../../src/program/gradient/definitions.ts';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { meanSquaredError } from '../../src/program/gradient/losses.ts';
import { Tracer } from '../../src/program/trace.ts';
import { decode, encode } from '../../src/tensor/codec.ts';
import { dim, symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { gradientCases, surrogateCases, withLoss } from './cases.ts';
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
      [...gradientCases(), ...surrogateCases()].flatMap((c) => {
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

describe('spikes', () => {
  it('pass a triangle around the threshold, and move the threshold the other way', () => {
    const t = new Tracer(new Map([['thresholds', { codec: 'float32', shape: [3, 8] }]]));
    const qkv = t.input('qkv', 'float32', [dim(3), dim(1), symbol('N'), dim(8)]);
    const y = t.emit('spikes', {
      inputs: [qkv],
      parameters: [t.parameter('thresholds')],
      outputs: [['y', 'float32', qkv.shape]],
      attributes: { size: 8 },
      rowWise: false,
    })[0];
    const target = t.input('target', 'float32', qkv.shape);
    t.output(meanSquaredError(t, y, target));
    const program = t.program();
    const [N, count] = [2, 3 * 2 * 8];
    const random = new Random(4);
    const [x, wanted] = [random.gaussians(count), random.gaussians(count)];
    const thresholds = encode('float32', [3, 8], random.gaussians(24, 0.3));
    const { outputs, gradients } = runTraining(
      differentiate(program, { inputs: ['qkv'] }).program,
      new Map([['thresholds', thresholds]]),
      { qkv: x, target: wanted, lossScale: [1] },
      { N },
    );
    const levels = decode(thresholds);
    const expected = new Float64Array(24);
    x.forEach((v, i) => {
      const c = Math.floor(i / (N * 8)) * 8 + (i % 8);
      const fired = v > levels[c] ? 1 : 0;
      const slope = Math.max(0, 1 - Math.abs(v - levels[c]));
      const dx = ((2 * (fired - wanted[i])) / count) * slope;
      expect(outputs[1][i]).toBeCloseTo(dx, 12);
      expected[c] -= dx;
    });
    gradients.get('thresholds')!.forEach((g, c) => {
      expect(g).toBeCloseTo(expected[c], 12);
    });
  });
});
