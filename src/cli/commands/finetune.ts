import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { applyRecipe, probeModel } from '../../compress/index.ts';
import { writeArtifact } from '../../format/index.ts';
import { accuracy, readData } from '../../optimize/index.ts';
import { formatBytes } from '../../report/index.ts';
import { loadModel } from '../../runtime/index.ts';
import { nodePlace, type TrainingProgress } from '../../train/index.ts';
import { command, JSON_FLAG, usageError } from '../command.ts';
import { withModel } from '../local-model.ts';
import { readRecipe } from '../recipes.ts';
import { factList } from '../table.ts';
import {
  machineOptions,
  memoryFact,
  progressLine,
  TRAINING_FLAGS,
  trainingOptions,
  WORK_FOLDER,
} from '../training.ts';

/** `attenuate finetune`: an encoder and labelled text go in; a classifier comes out, measured on what was held out. */
export const finetuneCommand = command({
  name: 'finetune',
  description: 'Train a classifier end to end on your labels',
  args: {
    model: { type: 'positional', required: true, description: 'Model folder or artifact' },
    data: {
      type: 'string',
      required: true,
      valueHint: 'file',
      description: 'Labelled text: CSV, TSV or JSONL',
    },
    test: {
      type: 'string',
      valueHint: 'file',
      description: 'Labelled text to measure on; else a share is held out',
    },
    ...TRAINING_FLAGS,
    ...JSON_FLAG,
  },
  examples: [
    'attenuate finetune ./all-MiniLM-L6-v2 --data reviews.csv --out out',
    'attenuate finetune ./all-MiniLM-L6-v2 --data train.csv --test test.csv --epochs 2 --out out --resume',
    'attenuate finetune ./all-MiniLM-L6-v2 --data reviews.csv --recipe int8.json --out out --json',
  ],
  async execute(args, { signal, progress }) {
    const machine = machineOptions('finetune', args);
    let memory: TrainingProgress['memory'] = null;
    const step = JSON.parse(
      JSON.stringify({ step: 'finetune', kind: 'classification', ...trainingOptions('finetune', args) }),
    );
    const recipe = [step, ...(args.recipe ? await readRecipe('finetune', args.recipe) : [])];
    return withModel('finetune', args.model, async (model) => {
      const data = await readData(args.data, { test: args.test, maxTrain: 1e6, maxTest: 1e6 });
      if (data.kind !== 'labels')
        throw usageError('finetune', 'data of another kind: expected labelled text, got pairs.');
      const folder = join(args.out, WORK_FOLDER);
      if (!args.resume) await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      const made = await applyRecipe(model, recipe, {
        signal,
        training: {
          texts: async () => data.train.map(({ text }) => text),
          labels: async () => data.train.map(({ label }) => label),
          place: nodePlace(folder),
          ...machine,
          onProgress: (p) => {
            memory = p.memory;
            progress.update(p.step / p.steps, 'finetune: train', progressLine(p));
          },
        },
      });
      const file = join(args.out, 'model.safetensors');
      const { byteLength } = await writeArtifact(made, file, {
        signal,
        probe: await probeModel(made, { signal }),
      });
      progress.update(1, 'measure');
      const loaded = await loadModel(made, { threads: machine.threads });
      const found = await loaded.classify(
        data.test.map(({ text }) => text),
        { signal },
      );
      loaded.dispose();
      const score = accuracy(
        found.map(({ label }) => label),
        data.test.map(({ label }) => label),
      );
      progress.clear();
      return {
        json: {
          file,
          bytes: byteLength,
          train: data.train.length,
          test: data.test.length,
          accuracy: score,
          memory,
        },
        text: factList([
          ['artifact', `${file}, ${formatBytes(byteLength)}`],
          ['texts', `${data.train.length} to train on, ${data.test.length} to test on`],
          ...memoryFact(memory),
          ['accuracy', `${score.toFixed(4)} (measured on the test texts)`],
        ]),
      };
    });
  },
});
