import { describe, expect, it } from 'vitest';
import { runTraining } from '../../src/backend/reference/interpreter.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import { TrainingEngine } from '../../src/backend/wasm/training/engine.ts';
import { traceEncoder } from '../../src/model/encoder.ts';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import {
  cosineDistance,
  crossEntropy,
  meanSquaredError,
  softCrossEntropy,
  weightedSum,
} from '../../src/program/gradient/losses.ts';
import type { TrainingProgram } from '../../src/program/gradient/training-program.ts';
import type { Program } from '../../src/program/program.ts';
import { traceOn } from '../../src/program/trace.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { decode, type Weight } from '../../src/tensor/codec.ts';
import { symbol } from '../../src/tensor/dim.ts';
import { Random } from '../../src/tensor/random.ts';
import { compare } from '../conformance/check.ts';
import { madeEncoder } from '../made-encoder.ts';
import { derivatives } from './finite-differences.ts';

const [B, N] = [3, 9];
const bindings = { B, N };
const features = { ...probeFeatures(), panel: 8 } as const;

interface Made {
  readonly whole: Program;
  readonly weights: Map<string, Weight>;
  readonly inputs: Record<string, Float32Array | Int32Array>;
}

async function embedder(random: Random): Promise<Made> {
  const { config, weights: store } = madeEncoder();
  const forward = await traceEncoder(config, store.specs);
  const weights = new Map<string, Weight>();
  for (const name of store.specs.keys()) weights.set(name, await store.read(name));
  const C = config.embeddingSize;
  const whole = traceOn(forward, store.specs, (t) => {
    const [y] = forward.outputs;
    const target = t.input('target', 'float32', [symbol('B'), C]);
    t.output(weightedSum(t, [meanSquaredError(t, y, target), cosineDistance(t, y, target)], [2, 0.5]));
    t.output(y);
  });
  const inputs = {
    ids: random.integers(B * N, config.vocabularySize),
    types: random.integers(B * N, 2),
    lengths: Int32Array.of(9, 4, 1),
    target: random.gaussians(B * C),
  };
  return { whole, weights, inputs };
}

async function classifier(random: Random): Promise<Made> {
  const labels = ['a', 'b', 'c'];
  const { config, weights: store } = madeEncoder({
    kind: 'classification',
    labels,
    poolerActivation: 'tanh',
  });
  const forward = await traceEncoder(config, store.specs);
  const weights = new Map<string, Weight>();
  for (const name of store.specs.keys()) weights.set(name, await store.read(name));
  const whole = traceOn(forward, store.specs, (t) => {
    const [logits] = forward.nodes.at(-1)!.inputs;
    const label = t.input('labels', 'int32', [symbol('B')]);
    const teacher = t.input('teacher', 'float32', logits.shape);
    const hard = crossEntropy(t, logits, label, { smoothing: 0.1 });
    const soft = softCrossEntropy(t, logits, teacher, { temperature: 2, divergence: true });
    t.output(weightedSum(t, [hard, soft], [1, 0.7]));
  });
  const inputs = {
    ids: random.integers(B * N, config.vocabularySize),
    types: random.integers(B * N, 2),
    lengths: Int32Array.of(9, 4, 1),
    labels: Int32Array.of(2, -1, 0),
    teacher: random.gaussians(B * labels.length),
  };
  return { whole, weights, inputs };
}

async function open(
  training: TrainingProgram,
  weights: ReadonlyMap<string, Weight>,
  threads = 1,
  forward: readonly Program[] = [],
) {
  const engine = await TrainingEngine.create(training, {
    features,
    tiles: { float32: 6, int8: 6 },
    threads,
    spawn: nodePlatform.spawn,
    forward,
  });
  for (const { name } of [...training.trainable, ...training.frozen])
    engine.weight(name).set(decode(weights.get(name)!));
  return engine;
}

const gradientsOf = (engine: TrainingEngine) =>
  engine.training.trainable.map(({ name }) => engine.gradient(name).slice());

it('an encoder as it is traced for inference is refused where training runs it', async () => {
  const { whole, weights } = await embedder(new Random(1));
  const training = differentiate(whole);
  const encoder = madeEncoder();
  const traced = await traceEncoder(encoder.config, encoder.weights.specs);
  await expect(open(training, weights, 1, [traced])).rejects.toMatchObject({
    code: 'OP_UNSUPPORTED',
    fields: { activation: 'gelu' },
  });
});

describe.each([
  ['an embedding', embedder],
  ['a classifier', classifier],
])('%s, whole', (_, make) => {
  it('has the gradients that finite differences have', async () => {
    const { whole, weights, inputs } = await make(new Random(1));
    const training = differentiate(whole);
    expect(training.trainable.map(({ name }) => name).sort()).toEqual([...weights.keys()].sort());
    for (const { gradient, difference, scale } of derivatives(
      whole,
      training,
      weights,
      inputs,
      bindings,
      new Random(2),
    ))
      expect(Math.abs(gradient - difference)).toBeLessThanOrEqual(1e-6 * scale);
  });

  it('has the same ones on the kernels, on one thread and to the bit on two', async () => {
    const { whole, weights, inputs } = await make(new Random(1));
    const training = differentiate(whole);
    const want = runTraining(training.program, weights, { ...inputs, lossScale: [1] }, bindings);
    const one = await open(training, weights);
    const two = await open(training, weights, 2);
    const [loss] = await one.step(bindings, inputs);
    expect(loss[0]).toBeCloseTo(want.outputs[0][0], 5);
    await two.step(bindings, inputs);
    training.trainable.forEach(({ name }, i) => {
      const verdict = compare(
        { absolute: 1e-6, relative: 3e-5 },
        gradientsOf(one)[i],
        want.gradients.get(name)!,
      );
      expect(verdict.ok, `${name}: ${verdict.message}`).toBe(true);
    });
    expect(gradientsOf(two)).toEqual(gradientsOf(one));
    one.dispose();
    two.dispose();
  });

  it('has the same ones to the bit when segments are computed again', async () => {
    const { whole, weights, inputs } = await make(new Random(1));
    const dropped = { ...inputs, dropoutSeed: Int32Array.of(7, 3) };
    const kept = await open(differentiate(whole, { dropout: 0.1 }), weights);
    const again = await open(differentiate(whole, { dropout: 0.1, segments: [0, 1, 2, 3] }), weights);
    await kept.step(bindings, dropped);
    await again.step(bindings, dropped);
    expect(gradientsOf(again)).toEqual(gradientsOf(kept));
    expect(again.peakBytes({ B: 8, N: 64 })).toBeLessThan(kept.peakBytes({ B: 8, N: 64 }));
    kept.dispose();
    again.dispose();
  });

  it('lowers its loss', async () => {
    const { whole, weights, inputs } = await make(new Random(1));
    const engine = await open(differentiate(whole), weights);
    const losses: number[] = [];
    for (let step = 1; step <= 30; step++) {
      engine.clearGradients();
      losses.push((await engine.step(bindings, inputs))[0][0]);
      const groups = [{ learningRate: 3e-3, weightDecay: 0 }];
      const norm = await engine.update({ groups, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step, maxNorm: 1 });
      expect(norm).toBeGreaterThan(0);
    }
    expect(losses.at(-1)! / losses[0]).toBeLessThan(0.9);
    engine.dispose();
  });
});
