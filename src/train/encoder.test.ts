import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../test/made-encoder.ts';
import { buildStudent } from '../compress/distill/student.ts';
import { studentSchema } from '../compress/distill/student-spec.ts';
import { folderFiles } from '../format/node/folder-files.ts';
import { createTokenizer } from '../format/tokenizer.ts';
import type { Model } from '../model/config.ts';
import { configure } from '../runtime/configure.ts';
import { loadModel } from '../runtime/index.ts';
import { nodePlatform } from '../runtime/node/platform.ts';
import { recentV8 } from '../runtime/this-thread.ts';
import { decode } from '../tensor/codec.ts';
import { Random } from '../tensor/random.ts';
import { tokenTexts } from './data/tokens.ts';
import { type EncoderTraining, trainEncoder } from './encoder.ts';
import { embeddingObjective } from './objective/embedding.ts';
import { defaultGroups } from './options.ts';
import type { TrainingProgress } from './train.ts';

const WORDS = 'a small model runs in the page and node alike with every word known to it'.split(' ');
const folder = mkdtempSync(join(tmpdir(), 'attenuate-distil-'));

function madeTexts(count: number): string[] {
  const random = new Random(4);
  return Array.from({ length: count }, () =>
    Array.from({ length: 2 + random.integer(8) }, () => WORDS[random.integer(WORDS.length)]).join(' '),
  );
}

const STEPS = 90;

async function setting(): Promise<{ student: Model; options: EncoderTraining; rows: Float32Array[] }> {
  const teacher = madeEncoder();
  const texts = madeTexts(300);
  const tokens = tokenTexts(texts, await createTokenizer(teacher.tokenizer!, 64));
  const model = await loadModel(teacher, { threads: 1 });
  const rows = await model.embed(texts);
  model.dispose();
  const range = (from: number, to: number) => Uint32Array.from({ length: to - from }, (_, i) => from + i);
  return {
    rows,
    student: await buildStudent(teacher, studentSchema.parse({ layers: [1], feedForwardSize: 32 })),
    options: {
      texts: tokens,
      objective: embeddingObjective((text) => rows[text]),
      training: range(0, 260),
      heldOut: range(260, 300),
      batch: { size: 16, seed: 1 },
      evaluateEvery: 10,
      threads: 1,
      platform: nodePlatform,
      update: {
        schedule: { peak: 2e-3, steps: STEPS, warmup: 4, decay: 'cosine', floor: 0 },
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        maxNorm: 1,
        groups: defaultGroups(0.01),
      },
    },
  };
}

const weightsOf = async ({ weights }: Model) =>
  Object.fromEntries(
    await Promise.all(
      [...weights.specs.keys()].map(async (name) => [name, [...decode(await weights.read(name))]] as const),
    ),
  );

describe('distilling embeddings', () => {
  it('brings a student nearer to its teacher on texts that it was not trained on', async () => {
    const { student, options, rows } = await setting();
    const scores: number[] = [];
    const { result, model } = await trainEncoder(student, {
      ...options,
      onProgress: ({ score, energyJ }) => {
        if (score !== null) scores.push(score);
        expect(energyJ).toBeGreaterThan(0);
      },
    });
    expect(result.steps).toBe(STEPS);
    expect(result.best!.score).toBeLessThan(0.8 * scores[0]);
    // The score is that of the model which comes out, run as any other.
    const loaded = await loadModel(model, { threads: 1 });
    const apart = [...options.heldOut].map(async (text) => {
      const [row] = await loaded.run([[...options.texts.ids(text)]]);
      return 1 - row.reduce((sum, x, c) => sum + x * rows[text][c], 0);
    });
    const mean = (await Promise.all(apart)).reduce((sum, x) => sum + x, 0) / apart.length;
    expect(mean).toBeCloseTo(result.best!.score, 5);
    loaded.dispose();
  });

  it.each([0, 0.1])(
    'gives the same bits when it stops on the way and goes on, dropout %f',
    async (dropout) => {
      const { student, options: plain } = await setting();
      const options = { ...plain, dropout };
      const whole = await trainEncoder(student, options);
      const checkpoint = {
        files: folderFiles(folder),
        name: `run${dropout}.safetensors`,
        key: 'k',
        everySeconds: 1e9,
        resume: true,
      };
      const stop = new AbortController();
      await expect(
        trainEncoder(student, {
          ...options,
          checkpoint,
          signal: stop.signal,
          onProgress: ({ step }) => step === 43 && stop.abort(new Error('stopped')),
        }),
      ).rejects.toThrow('stopped');
      const { model, result } = await trainEncoder(student, { ...options, checkpoint });
      expect(result.best).toEqual(whole.result.best);
      expect(await weightsOf(model)).toEqual(await weightsOf(whole.model));
    },
  );

  it('leaves frozen weights as they are', async () => {
    const { student, options } = await setting();
    const trainable = (name: string) => name.includes('feedForward');
    const { model } = await trainEncoder(student, { ...options, trainable });
    const [before, after] = [await weightsOf(student), await weightsOf(model)];
    for (const name of Object.keys(before))
      if (trainable(name)) expect(after[name], name).not.toEqual(before[name]);
      else expect(after[name], name).toEqual(before[name]);
  });

  it('learns the same on two threads, up to the order of sums', async () => {
    const { student, options } = await setting();
    const schedule = { ...options.update.schedule, steps: 10 };
    const short = { ...options, update: { ...options.update, schedule } };
    const one = await trainEncoder(student, short);
    const two = await trainEncoder(student, { ...short, threads: 2 });
    expect(two.result.best!.score).toBeCloseTo(one.result.best!.score, 4);
  });

  it('learns the same bits within a limit of memory, and refuses one that nothing would fit into', async () => {
    const { options } = await setting();
    const student = await buildStudent(madeEncoder(), studentSchema.parse({ layers: 2 }));
    const schedule = { ...options.update.schedule, steps: 6 };
    let last: TrainingProgress['memory'] = null;
    const short = {
      ...options,
      batch: { size: 64, seed: 1 },
      update: { ...options.update, schedule },
      onProgress: ({ memory }: TrainingProgress) => void (last = memory),
    };
    const memoryOf = () => last!;
    const whole = await trainEncoder(student, short);
    const { keptBytes, plannedBytes } = memoryOf();
    expect(plannedBytes).toBe(keptBytes);
    const limit = Math.round(0.9 * keptBytes);
    const limited = await trainEncoder(student, { ...short, memoryBytes: limit });
    expect(await weightsOf(limited.model)).toEqual(await weightsOf(whole.model));
    expect(memoryOf()).toMatchObject({ keptBytes });
    expect(memoryOf().plannedBytes).toBeLessThanOrEqual(limit);
    expect(memoryOf().measuredBytes).toBeLessThanOrEqual(memoryOf().plannedBytes + 2 ** 20);
    await expect(trainEncoder(student, { ...short, memoryBytes: 3e6 })).rejects.toMatchObject({
      code: 'MEMORY_BUDGET',
    });
  });

  it('learns the same from a batch in parts, up to the order of sums', async () => {
    const { student, options } = await setting();
    const schedule = { ...options.update.schedule, steps: 10 };
    const short = { ...options, update: { ...options.update, schedule } };
    const whole = await trainEncoder(student, short);
    const parts = await trainEncoder(student, { ...short, accumulate: 4 });
    expect(parts.result.best!.score).toBeCloseTo(whole.result.best!.score, 4);
    await expect(trainEncoder(student, { ...short, accumulate: 3 })).rejects.toMatchObject({
      code: 'TRAINING_PARTS',
    });
  });

  // Last: the engine's flag holds for the whole process.
  it.skipIf(!recentV8())('learns the same bits with wide vectors (V8 13.6 has them)', async () => {
    const { options } = await setting();
    const made = madeEncoder();
    const layers = made.config.layers.map((layer) => ({ ...layer, heads: 2, headSize: 16 }));
    const student = { ...made, config: { ...made.config, layers } };
    const schedule = { ...options.update.schedule, steps: 10 };
    const short = { ...options, update: { ...options.update, schedule } };
    const plain = await trainEncoder(student, short);
    const wide = await trainEncoder(student, { ...short, wide: true });
    expect((await configure(student.config, { wide: true }, nodePlatform)).features.panel).toBe(16);
    expect(await weightsOf(wide.model)).toEqual(await weightsOf(plain.model));
  });
});
