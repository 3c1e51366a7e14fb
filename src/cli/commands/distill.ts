import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { applyRecipe, probeModel, type Recipe } from '../../compress/index.ts';
import { writeArtifact } from '../../format/index.ts';
import { folderFiles } from '../../format/node/folder-files.ts';
import { observeInputs } from '../../optimize/index.ts';
import { formatBytes } from '../../report/index.ts';
import { nodePlace, type TrainingProgress } from '../../train/index.ts';
import { readLogs } from '../../train/log.ts';
import { command, JSON_FLAG } from '../command.ts';
import { withModel } from '../local-model.ts';
import { readRecipe } from '../recipes.ts';
import { factList } from '../table.ts';
import { readLines } from '../texts.ts';
import {
  machineOptions,
  memoryFact,
  progressLine,
  TRAINING_FLAGS,
  trainingOptions,
  WORK_FOLDER,
} from '../training.ts';
import { wholeNumber } from '../values.ts';

/** Texts on which neurons are weighed. */
const OBSERVED = 1000;

/** `attenuate distill`: a teacher and text without labels go in; a trained, smaller artifact comes out. */
export const distillCommand = command({
  name: 'distill',
  description: 'Train a smaller model to give what a larger one gives, on text without labels',
  args: {
    model: { type: 'positional', required: true, description: 'The teacher: a model folder or artifact' },
    texts: { type: 'string', required: true, valueHint: 'file', description: 'Text to train on, one a line' },
    kind: {
      type: 'string',
      valueHint: 'embedding|layers',
      description: 'What is learnt: embeddings (default), or layer by layer (TinyBERT), classifiers too',
    },
    layers: {
      type: 'string',
      valueHint: 'list',
      description: 'How many layers, or which of the teacher’s, such as 4,5',
    },
    fold: { type: 'boolean', description: 'Put what the layers below the first one do into the tables' },
    table: { type: 'string', valueHint: 'n', description: 'Width of the word table; a projection widens it' },
    'feed-forward': { type: 'string', valueHint: 'n', description: 'Neurons of a layer' },
    vocabulary: { type: 'string', valueHint: 'n', description: 'Tokens to keep' },
    ...TRAINING_FLAGS,
    ...JSON_FLAG,
  },
  examples: [
    'attenuate distill ./all-MiniLM-L6-v2 --texts texts.txt --layers 4,5 --fold --table 128 --out out',
    'attenuate distill ./all-MiniLM-L6-v2 --texts texts.txt --layers 3 --recipe int8.json --out out --json',
    'attenuate distill classifier/model.safetensors --texts texts.txt --kind layers --layers 3 --feed-forward 768 --out out',
    'attenuate distill ./all-MiniLM-L6-v2 --texts texts.txt --layers 3 --epochs 2 --out out --resume',
  ],
  async execute(args, { signal, progress }) {
    const machine = machineOptions('distill', args);
    let memory: TrainingProgress['memory'] = null;
    const recipe = [stepOf(args), ...(args.recipe ? await readRecipe('distill', args.recipe) : [])];
    const texts = await readLines('distill', createReadStream(args.texts));
    const folder = join(args.out, WORK_FOLDER);
    return withModel('distill', args.model, async (teacher) => {
      if (!args.resume) await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      const made = await applyRecipe(teacher, recipe, {
        signal,
        observe: async (model, request) =>
          (await observeInputs(model, texts, request, { maxTexts: OBSERVED, maxTokens: 64, signal })).inputs,
        onProgress: (what, fraction) => progress.update(fraction, what),
        training: {
          texts: async () => texts,
          place: nodePlace(folder),
          ...machine,
          onProgress: (p) => {
            memory = p.memory;
            progress.update(p.step / p.steps, 'distill: train', progressLine(p));
          },
        },
      });
      progress.update(1, 'write');
      const file = join(args.out, 'model.safetensors');
      const { byteLength } = await writeArtifact(made, file, {
        signal,
        probe: await probeModel(made, { signal }),
      });
      progress.clear();
      const log = await readLogs(folderFiles(folder));
      const scores = log.filter((entry) => entry.score !== undefined);
      const [first, last] = [scores[0], scores[scores.length - 1]];
      return {
        json: { file, bytes: byteLength, texts: texts.length, recipe: made.recipe, heldOut: scores, memory },
        text: factList([
          ['artifact', `${file}, ${formatBytes(byteLength)}`],
          ['texts', `${texts.length}`],
          ...memoryFact(memory),
          ['held out', `loss ${first?.score.toFixed(4)} → ${last?.score.toFixed(4)} (measured)`],
        ]),
      };
    });
  },
});

interface StudentFlags {
  readonly kind?: string;
  readonly layers?: string;
  readonly fold?: boolean;
  readonly table?: string;
  readonly 'feed-forward'?: string;
  readonly vocabulary?: string;
}

/** The recipe step that the flags name; what they leave out is the step's own default. */
function stepOf(args: StudentFlags & Parameters<typeof trainingOptions>[1]): Recipe[number] {
  const whole = (flag: keyof StudentFlags) =>
    args[flag] === undefined ? undefined : wholeNumber('distill', `--${flag}`, args[flag] as string, 0);
  const student = {
    layers: layersOf(args.layers),
    fold: args.fold || undefined,
    tableSize: whole('table'),
    feedForwardSize: whole('feed-forward'),
    vocabulary: whole('vocabulary'),
  };
  return JSON.parse(
    JSON.stringify({
      step: 'distill',
      kind: args.kind ?? 'embedding',
      student,
      ...trainingOptions('distill', args),
    }),
  );
}

/** One number is a count; several, or one with a comma behind it, are layers of the teacher. */
function layersOf(text: string | undefined): number | number[] | undefined {
  if (text === undefined) return undefined;
  if (!text.includes(',')) return wholeNumber('distill', '--layers', text);
  const parts = text.split(',').filter((part) => part.trim() !== '');
  return parts.map((part) => wholeNumber('distill', '--layers', part.trim(), 0));
}
