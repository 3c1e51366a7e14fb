import { describe, expect, it } from 'vitest';
import { runTraining } from '../../src/backend/reference/interpreter.ts';
import type { Features } from '../../src/backend/wasm/kernels/kernel.ts';
import { probeFeatures } from '../../src/backend/wasm/probe.ts';
import { TrainingEngine } from '../../src/backend/wasm/training/engine.ts';
import { differentiate } from '../../src/program/gradient/differentiate.ts';
import { nodePlatform } from '../../src/runtime/node/platform.ts';
import { decode } from '../../src/tensor/codec.ts';
import { Random } from '../../src/tensor/random.ts';
import { compare } from '../conformance/check.ts';
import { gradientCases, surrogateCases, withLoss } from './cases.ts';

interface Setting {
  readonly name: string;
  readonly features: Features;
  readonly rows: number;
  readonly threads: number;
}

const probed = probeFeatures();
const plain = { level: 'simd128', fused: false, dot: 'i16' } as const;
const settings: Setting[] = [
  { name: 'probed', features: { ...probed, panel: 8 }, rows: 6, threads: 1 },
  { name: 'probed, two threads', features: { ...probed, panel: 8 }, rows: 4, threads: 2 },
  { name: 'simd128', features: { ...plain, panel: 8 }, rows: 3, threads: 1 },
];

/** A gradient passes through the op, a loss and their backward ops. */
const BUDGET = { absolute: 2e-6, relative: 2e-5 };

/** All of them on the kernels that run here; elsewhere some of each op's. */
const casesOf = ({ name }: Setting) =>
  [...gradientCases(), ...surrogateCases()].filter((_, i) => name === 'probed' || i % 6 === 0);

describe.each(settings)('gradients on wasm, $name', (setting) => {
  const { features, rows, threads } = setting;
  it.each(casesOf(setting).map((c) => [`${c.op}: ${c.name}`, c] as const))('%s', async (_, c) => {
    const { built } = c;
    const { whole, inputs, floats } = withLoss(c, new Random(5));
    const training = differentiate(whole, { inputs: floats });
    const all = { ...inputs, lossScale: Float32Array.of(0.5) };
    const want = runTraining(training.program, built.weights, all, built.bindings);
    const engine = await TrainingEngine.create(training, {
      features,
      tiles: { float32: rows, int8: rows },
      threads,
      spawn: nodePlatform.spawn,
    });
    try {
      for (const { name } of [...training.trainable, ...training.frozen])
        engine.weight(name).set(decode(built.weights.get(name)!));
      let first: Float32Array[] | undefined;
      for (let run = 0; run < 3; run++) {
        engine.clearGradients();
        const outputs = await engine.step(built.bindings, all);
        const got = [...outputs, ...training.trainable.map(({ name }) => engine.gradient(name).slice())];
        first ??= got;
        got.forEach((y, i) => {
          expect(
            y.findIndex((x, j) => !Object.is(x, first![i][j])),
            'a later run equals the first',
          ).toBe(-1);
        });
      }
      const wanted = [...want.outputs, ...training.trainable.map(({ name }) => want.gradients.get(name)!)];
      wanted.forEach((r, i) => {
        const verdict = compare(BUDGET, first![i], r);
        const what = [...training.program.outputs, ...training.trainable][i].name;
        expect(verdict.ok, `${what}: ${verdict.message}`).toBe(true);
      });
    } finally {
      engine.dispose();
    }
  });
});
