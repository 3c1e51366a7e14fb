import { describe, expect, it } from 'vitest';
import { madeEncoder } from '../../../test/made-encoder.ts';
import { buildStudent } from '../../compress/distill/student.ts';
import { studentSchema } from '../../compress/distill/student-spec.ts';
import { createTokenizer } from '../../format/tokenizer.ts';
import type { HeadSpec, Model } from '../../model/config.ts';
import { loadModel } from '../../runtime/index.ts';
import { nodePlatform } from '../../runtime/node/platform.ts';
import { Random } from '../../tensor/random.ts';
import { tokenTexts } from '../data/tokens.ts';
import { type EncoderTraining, trainEncoder } from '../encoder.ts';
import { defaultGroups } from '../options.ts';
import { attentionObjective } from './attention.ts';
import { labelsObjective } from './labels.ts';
import { layersObjective } from './layers.ts';
import { logitsObjective } from './logits.ts';
import { type Objective, together } from './objective.ts';
import { RunningTeacher } from './teacher.ts';

const HEAD: HeadSpec = { kind: 'classification', labels: ['page', 'node'], poolerActivation: 'tanh' };
const WORDS = 'a small model runs in the with every word known to it quick brown fox'.split(' ');

/** Texts with one of two telling words in them. */
function labelled(count: number): { text: string; label: number }[] {
  const random = new Random(3);
  return Array.from({ length: count }, () => {
    const words = Array.from({ length: 2 + random.integer(6) }, () => WORDS[random.integer(WORDS.length)]);
    const label = random.integer(2);
    words.splice(random.integer(words.length), 0, label ? 'node' : 'page');
    return { text: words.join(' '), label };
  });
}

const DATA = labelled(320);
const range = (from: number, to: number) => Uint32Array.from({ length: to - from }, (_, i) => from + i);

const tokensOf = async (model: Model) =>
  tokenTexts(
    DATA.map(({ text }) => text),
    await createTokenizer(model.tokenizer!, 64),
  );

async function run(model: Model, objective: Objective, steps: number, peak: number, more = {}) {
  const options: EncoderTraining = {
    texts: await tokensOf(model),
    objective,
    training: range(0, 256),
    heldOut: range(256, 320),
    batch: { size: 16, seed: 1 },
    evaluateEvery: Math.max(1, Math.floor(steps / 2)),
    threads: 1,
    platform: nodePlatform,
    update: {
      schedule: { peak, steps, warmup: 0, decay: 'linear', floor: 0 },
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      maxNorm: 1,
      groups: defaultGroups(0),
    },
    ...more,
  };
  return trainEncoder(model, options);
}

const besides = async (teacher: Model) => RunningTeacher.open(teacher, await tokensOf(teacher));
const cut = (model: Model, spec: object) => buildStudent(model, studentSchema.parse(spec));

describe('layer-wise distillation', () => {
  it('loses nothing when the student is its teacher', async () => {
    const teacher = madeEncoder();
    const options = { map: [0, 1], hidden: 1, embedding: 1, seed: 1 };
    const objective = layersObjective(await besides(teacher), teacher, options);
    const { result } = await run(teacher, objective, 1, 1e-12);
    expect(result.best!.score).toBeLessThan(1e-10);
  });

  it('brings a narrower student’s layers nearer through projections that fall away', async () => {
    const teacher = madeEncoder();
    const student = await cut(teacher, { layers: 1, width: 24, heads: 3 });
    const options = { map: [1], hidden: 1, embedding: 1, seed: 1 };
    const objective = layersObjective(await besides(teacher), student, options);
    const scores: (number | null)[] = [];
    const { model } = await run(student, objective, 60, 1e-2, {
      onProgress: ({ score }: { score: number | null }) => scores.push(score),
    });
    const judged = scores.filter((score) => score !== null);
    expect(judged[judged.length - 1]).toBeLessThan(0.7 * judged[0]);
    expect([...model.weights.specs.keys()].some((name) => name.startsWith('distill.'))).toBe(false);
  });
});

describe('attention distillation', () => {
  it.each(['scores', 'attention', 'relations'] as const)(
    'of %s loses nothing to itself, and gets nearer',
    async (compare) => {
      const teacher = madeEncoder();
      const options = { map: [[0, 1] as const], compare, relationHeads: compare === 'relations' ? 2 : 4 };
      const itself = attentionObjective(await besides(teacher), { ...options, map: [[1, 1]] });
      expect((await run(teacher, itself, 1, 1e-12)).result.best!.score).toBeLessThan(1e-6);
      const student = await cut(teacher, { layers: [0] });
      const scores: (number | null)[] = [];
      await run(student, attentionObjective(await besides(teacher), options), 60, 1e-2, {
        onProgress: ({ score }: { score: number | null }) => scores.push(score),
      });
      const judged = scores.filter((score) => score !== null);
      expect(judged[judged.length - 1]).toBeLessThan(judged[0]);
    },
  );

  it('compares relations of students with fewer heads, and scores of none', async () => {
    const teacher = madeEncoder();
    const student = await cut(teacher, { layers: 1, heads: 2 });
    const relations = { map: [[0, 1] as const], compare: 'relations' as const, relationHeads: 2 };
    const { result } = await run(student, attentionObjective(await besides(teacher), relations), 4, 1e-3);
    expect(Number.isFinite(result.loss)).toBe(true);
    const scores = attentionObjective(await besides(teacher), { ...relations, compare: 'scores' });
    await expect(run(student, scores, 1, 1e-3)).rejects.toMatchObject({ code: 'OBJECTIVE_LAYER' });
  });
});

describe('a classifier', () => {
  const accuracy = async (model: Model) => {
    const loaded = await loadModel(model, { threads: 1 });
    const found = await loaded.classify(DATA.slice(256).map(({ text }) => text));
    loaded.dispose();
    return found.filter(({ label }, i) => label === (DATA[256 + i].label ? 'node' : 'page')).length / 64;
  };

  it('is fine-tuned end to end on labels, and hands on what it learnt to a smaller one without any', async () => {
    const made = madeEncoder(HEAD);
    const { model: teacher } = await run(
      made,
      labelsObjective((text) => DATA[text].label),
      60,
      3e-3,
    );
    expect(await accuracy(teacher)).toBeGreaterThan(0.95);
    expect(await accuracy(made)).toBeLessThan(0.8);
    const student = await cut(teacher, { layers: 1, feedForwardSize: 32, map: 'first' });
    const tokens = await tokensOf(teacher);
    const loaded = await loadModel(teacher, { threads: 1 });
    const given = await loaded.run(Array.from(DATA, (_, i) => [...tokens.ids(i)]));
    loaded.dispose();
    const beside = await besides(teacher);
    const objective = together([
      [logitsObjective((text) => given[text].map(Math.log), 2), 1],
      [layersObjective(beside, student, { map: [1], hidden: 1, embedding: 0, seed: 1 }), 0.1],
    ]);
    const { model } = await run(student, objective, 60, 3e-3);
    expect(await accuracy(model)).toBeGreaterThan(0.95);
  });

  it('is asked for where labels or logits are, by name', async () => {
    const encoder = madeEncoder();
    await expect(
      run(
        encoder,
        labelsObjective(() => 0),
        1,
        1e-3,
      ),
    ).rejects.toMatchObject({
      code: 'WRONG_HEAD',
    });
    const options = { map: [7], hidden: 1, embedding: 0, seed: 1 };
    const teacher = await besides(encoder);
    expect(() => layersObjective(teacher, encoder, options)).toThrow(
      expect.objectContaining({ code: 'OBJECTIVE_LAYER' }),
    );
  });
});
