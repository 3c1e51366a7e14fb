import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { AdamW, TrainingMachine } from '../backend/wasm/training/types.ts';
import { folderFiles } from '../format/node/folder-files.ts';
import { Random } from '../tensor/random.ts';
import { readLog } from './log.ts';
import { defaultGroups, type UpdateOptions } from './options.ts';
import { learningRate } from './schedule.ts';
import { type MicroBatch, type TrainingOptions, train } from './train.ts';

const files = folderFiles(mkdtempSync(join(tmpdir(), 'attenuate-train-')));

/** The loss ½ Σ (w − input)² by hand: what a machine promises, in a few lines. */
function madeMachine(): TrainingMachine & { readonly w: Float32Array } {
  const [w, gradient] = [Float32Array.from([3, -2, 1, 0.5]), new Float32Array(4)];
  const moments = [new Float32Array(4), new Float32Array(4)] as const;
  return {
    w,
    stateBytes: 64,
    memoryBytes: 64,
    peakBytes: () => 0,
    weight: () => w,
    gradient: () => gradient,
    moments: () => moments,
    clearGradients: () => gradient.fill(0),
    async step(_bindings, { goal, lossScale }) {
      let loss = 0;
      for (let i = 0; i < 4; i++) {
        loss += (w[i] - goal[i]) ** 2 / 2;
        gradient[i] += lossScale[0] * (w[i] - goal[i]);
      }
      return [Float32Array.of(loss)];
    },
    forward: async () => [],
    gradientNorm: async () => Math.hypot(...gradient),
    async update({ groups: [{ learningRate, weightDecay }], beta1, beta2, epsilon, step }: AdamW) {
      const [m, v] = moments;
      for (let i = 0; i < 4; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * gradient[i];
        v[i] = beta2 * v[i] + (1 - beta2) * gradient[i] ** 2;
        const change = m[i] / (1 - beta1 ** step) / (Math.sqrt(v[i] / (1 - beta2 ** step)) + epsilon);
        w[i] -= learningRate * (change + weightDecay * w[i]);
      }
      return Math.hypot(...gradient);
    },
    dispose() {},
  };
}

const STEPS = 60;
const update: UpdateOptions = {
  schedule: { peak: 0.1, steps: STEPS, warmup: 5, decay: 'cosine', floor: 0 },
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  maxNorm: null,
  groups: defaultGroups(0.01),
};

function batches(step: number): MicroBatch[] {
  const random = new Random(step);
  return Array.from({ length: 2 }, () => ({
    bindings: { B: 1, N: 1 },
    inputs: { goal: random.gaussians(4) },
    tokens: 3,
  }));
}

const distance = (w: Float32Array) => async () => Math.hypot(...w);

describe('training', () => {
  it('reaches the goal, and ends with the weights that did best', async () => {
    const machine = madeMachine();
    const scores: number[] = [];
    const evaluate = {
      every: 10,
      score: async () => {
        scores.push(Math.hypot(...machine.w));
        return scores[scores.length - 1];
      },
    };
    const result = await train({ machine, trainable: ['a.weight'], batches, update, evaluate });
    expect(result.steps).toBe(STEPS);
    expect(result.tokens).toBe(STEPS * 6);
    expect(result.best!.score).toBe(Math.min(...scores));
    expect(Math.hypot(...machine.w)).toBe(Math.min(...scores));
    expect(Math.hypot(...machine.w)).toBeLessThan(1);
  });

  it('stops when nothing gets better', async () => {
    const machine = madeMachine();
    const options = { machine, trainable: ['a.weight'], batches, update, patience: 2 };
    const result = await train({ ...options, evaluate: { every: 5, score: async () => 1 } });
    expect(result).toMatchObject({ steps: 15, stoppedEarly: true, best: { step: 5 } });
  });

  it('gives the same weights and log when it is killed anywhere and goes on', async () => {
    const run = async (name: string, stops: number[]) => {
      const log = `${name}.jsonl`;
      for (const stop of [...stops, Number.POSITIVE_INFINITY]) {
        const machine = madeMachine();
        const controller = new AbortController();
        const options: TrainingOptions = {
          machine,
          trainable: ['a.weight'],
          batches,
          update,
          evaluate: { every: 7, score: distance(machine.w) },
          checkpoint: { files, name: `${name}.safetensors`, key: 'k', everySeconds: 0, resume: true },
          log: { files, name: log, every: 3 },
          signal: controller.signal,
          onProgress: ({ step }) => {
            // A kill at an odd step loses the steps since the last checkpoint; an abort writes one.
            if (step === stop) {
              if (stop % 2) throw new Error('killed');
              controller.abort(new Error('stopped'));
            }
          },
        };
        const finished = await train(options).catch((error: Error) => error);
        if (finished instanceof Error) expect(finished.message).toMatch(/killed|stopped/);
        else return { w: [...machine.w], log, best: finished.best };
      }
      throw new Error('never finished');
    };
    const whole = await run('whole', []);
    const random = new Random(5);
    for (let round = 0; round < 2; round++) {
      const stops = Array.from({ length: 3 }, () => 1 + random.integer(STEPS - 2)).sort((a, b) => a - b);
      const cut = await run(`cut${round}`, [...new Set(stops)]);
      expect(cut.w).toEqual(whole.w);
      expect(cut.best).toEqual(whole.best);
      const strip = (entries: Awaited<ReturnType<typeof readLog>>) =>
        entries.map(({ seconds: _, ...rest }) => rest);
      expect(strip(await readLog(files, cut.log))).toEqual(strip(await readLog(files, whole.log)));
    }
  });

  it('refuses the checkpoint of another run, and one that is damaged', async () => {
    const machine = madeMachine();
    const options = { machine, trainable: ['a.weight'], batches, update };
    const checkpoint = { files, name: 'other.safetensors', key: 'one', everySeconds: 1e9, resume: true };
    await train({ ...options, checkpoint });
    await expect(train({ ...options, checkpoint: { ...checkpoint, key: 'two' } })).rejects.toMatchObject({
      code: 'CHECKPOINT_OTHER',
    });
    await expect(train({ ...options, trainable: ['b.weight'], checkpoint })).rejects.toMatchObject({
      code: 'CHECKPOINT_DAMAGED',
    });
    expect((await files.open('other.safetensors'))!.size).toBeGreaterThan(48);
  });

  it('says so when a loss is not finite', async () => {
    const machine = madeMachine();
    const bad = () => [{ ...batches(0)[0], inputs: { goal: new Float32Array(4).fill(Number.NaN) } }];
    await expect(train({ machine, trainable: ['a.weight'], batches: bad, update })).rejects.toMatchObject({
      code: 'TRAINING_DIVERGED',
      fields: { step: 0 },
    });
  });
});

describe('the learning rate', () => {
  const schedule = { peak: 2, steps: 100, warmup: 10, decay: 'linear', floor: 0.1 } as const;

  it('rises evenly, then falls to its floor', () => {
    expect(learningRate(schedule, 0)).toBeCloseTo(0.2);
    expect(learningRate(schedule, 9)).toBeCloseTo(2);
    expect(learningRate(schedule, 10)).toBeCloseTo(2);
    expect(learningRate(schedule, 55)).toBeCloseTo(2 * 0.55);
    expect(learningRate(schedule, 100)).toBeCloseTo(0.2);
    expect(learningRate({ ...schedule, decay: 'cosine', floor: 0 }, 55)).toBeCloseTo(1);
    expect(learningRate({ ...schedule, decay: 'none' }, 99)).toBe(2);
  });
});
